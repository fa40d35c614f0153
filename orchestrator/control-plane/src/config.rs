//! Configuration of the control plane. Every key has a default.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use policy::{autoscale, placement};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policies::Decides;

/// Workers send a heartbeat every 250 ms unless configured otherwise: a shorter silence means nothing.
const MIN_SILENCE: Duration = Duration::from_millis(100);

/// What a control plane is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where data planes and workers connect; port 0 takes any free one.
    pub stream: SocketAddr,
    /// Where operators, health checks and metrics are served.
    pub http: SocketAddr,
    /// Directory of the command log.
    pub data_dir: PathBuf,
    /// Directory into which `coldstarts.csv` is written; none when absent.
    pub record: Option<PathBuf>,
    /// Threads of its process, 0: half of the cores. Everything that decides is one task, and handing messages from
    /// thread to thread costs more than reading them: one thread is the cheapest until it is busy.
    pub threads: usize,
    /// Seed of placement's random choices.
    pub seed: u64,
    /// Addresses told to clients of the form interface instead of the data planes' own, for example a load balancer.
    pub invoke_addresses: Vec<String>,
    /// Whether calls that write need the token that is left in `data_dir`, and peers the cluster's, which is left there too.
    pub auth: bool,
    /// Whether the form interface is served, which existing load generators use: without a token, so whoever reaches the
    /// port can register functions. The container images that they name are taken as the built-in function.
    pub form: bool,
    /// Host names with a dot by which `http` may be called, for example a load balancer's. Addresses and names without a
    /// dot always may: what a page in a browser can name is a domain of its own.
    pub hosts: Vec<String>,
    /// Autoscaling.
    pub autoscale: Autoscale,
    /// Placement.
    pub placement: Placement,
    /// Failure detection and recovery.
    pub health: Health,
}

/// Autoscaling of functions that choose nothing themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Autoscale {
    /// Policy by name.
    pub policy: String,
}

/// Placement of sandboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Policy by name.
    pub policy: String,
}

/// Times after which silence means something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// A worker silent for this long gets no new work.
    #[serde(with = "model::duration")]
    pub suspect_after: Duration,
    /// A worker silent for this long is dead, and its sandboxes are replaced.
    #[serde(with = "model::duration")]
    pub dead_after: Duration,
    /// A vanished data plane keeps its slots for this long; then their sandboxes are ended.
    #[serde(with = "model::duration")]
    pub data_plane_grace: Duration,
    /// After a restart, longest wait for workers and data planes to report before deciding anything.
    #[serde(with = "model::duration")]
    pub recovery_window: Duration,
    /// Longest wait for invocations of a sandbox that leaves service.
    #[serde(with = "model::duration")]
    pub drain_deadline: Duration,
    /// Longest wait for a commanded sandbox to be ready; then it counts as a failed creation, and is made elsewhere.
    /// While its worker has others to make first, the wait has not begun; where it has waited as long for those and
    /// later ones are made first, it is commanded again, at a worker with fewer to make if there is room.
    #[serde(with = "model::duration")]
    pub creation_deadline: Duration,
}

/// A key of the configuration has a value that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key} {problem}")]
pub struct ConfigError {
    /// The key's path, for example `health.dead_after`.
    pub key: &'static str,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl Config {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first key that cannot be used, or that contradicts another.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Health { suspect_after, dead_after, data_plane_grace, recovery_window, creation_deadline, .. } =
            self.health;
        let fail = |key, problem: String| Err(ConfigError { key, problem });
        if suspect_after < MIN_SILENCE {
            return fail("health.suspect_after", format!("must be at least {MIN_SILENCE:?}"));
        }
        if dead_after <= suspect_after {
            return fail(
                "health.dead_after",
                format!("is {dead_after:?}, must be above health.suspect_after ({suspect_after:?})"),
            );
        }
        if recovery_window.is_zero() {
            return fail("health.recovery_window", "must be above 0: nobody could report before it is over".to_owned());
        }
        let limits = [
            ("health.dead_after", dead_after, "who has to report would be dead before that is known"),
            ("health.data_plane_grace", data_plane_grace, "what data planes hold would be ended before they report it"),
        ];
        for (key, limit, otherwise) in limits {
            if limit < recovery_window {
                let problem = format!(
                    "is {limit:?}, must not be below health.recovery_window ({recovery_window:?}): {otherwise}"
                );
                return fail(key, problem);
            }
        }
        if creation_deadline.is_zero() {
            return fail("health.creation_deadline", "must be above 0: no sandbox could be ready in time".to_owned());
        }
        self.policies().map(drop)
    }
}

impl Config {
    /// The policies that are named.
    ///
    /// # Errors
    /// The first name that no policy has.
    pub(crate) fn policies(&self) -> Result<(&'static autoscale::Policy, &'static placement::Policy), ConfigError> {
        let unknown = |key, name: &str, decides: Decides| ConfigError {
            key,
            problem: format!("is {name:?}, expected one of {}", decides.known()),
        };
        let (scale, place) = (&self.autoscale.policy, &self.placement.policy);
        let autoscale = autoscale::find(scale).ok_or_else(|| unknown("autoscale.policy", scale, Decides::Scale))?;
        let placement = placement::find(place).ok_or_else(|| unknown("placement.policy", place, Decides::Placement))?;
        Ok((autoscale, placement))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream: SocketAddr::from(([127, 0, 0, 1], 9090)),
            http: SocketAddr::from(([127, 0, 0, 1], 9091)),
            data_dir: PathBuf::from("dirigent-data/control-plane"),
            record: None,
            threads: 1,
            seed: 1,
            invoke_addresses: Vec::new(),
            auth: true,
            form: false,
            hosts: Vec::new(),
            autoscale: Autoscale::default(),
            placement: Placement::default(),
            health: Health::default(),
        }
    }
}

impl Default for Autoscale {
    fn default() -> Self {
        Self { policy: "reactive".to_owned() }
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self { policy: "power-of-two".to_owned() }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_millis(1500),
            dead_after: Duration::from_secs(10),
            data_plane_grace: Duration::from_secs(30),
            recovery_window: Duration::from_millis(500),
            drain_deadline: Duration::from_secs(60),
            creation_deadline: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_values_that_contradict_each_other_are_named() {
        type Change = fn(&mut Health);
        let changes: [(Change, &str); 7] = [
            (|h| h.suspect_after = Duration::ZERO, "health.suspect_after"),
            (|h| h.suspect_after = Duration::from_secs(10), "health.dead_after"),
            (|h| h.dead_after = Duration::from_secs(1), "health.dead_after"),
            (|h| h.recovery_window = Duration::ZERO, "health.recovery_window"),
            (|h| h.recovery_window = Duration::from_secs(20), "health.dead_after"),
            (|h| h.data_plane_grace = Duration::from_millis(499), "health.data_plane_grace"),
            (|h| h.creation_deadline = Duration::ZERO, "health.creation_deadline"),
        ];
        assert_eq!(Config::default().check(), Ok(()));
        for (change, key) in changes {
            let mut config = Config::default();
            change(&mut config.health);
            assert_eq!(config.check().unwrap_err().key, key);
        }
    }
}
