//! Configuration of the control plane. Every key has a default.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use policy::{autoscale, placement};
use serde::{Deserialize, Serialize};
use service::ConfigError;

use crate::policies::Decides;

/// Lowest `health.suspect_after`. Workers send a heartbeat every 250 ms by default, so a shorter silence means nothing.
const MIN_SUSPECT_AFTER: Duration = Duration::from_millis(100);

/// A control plane's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address for data planes and workers; port 0 takes any free one.
    pub stream: SocketAddr,
    /// Address for operators, health checks and metrics.
    pub http: SocketAddr,
    /// Directory of the command log.
    pub data_dir: PathBuf,
    /// Directory into which `coldstarts.csv` is written; if absent, it is not.
    pub record: Option<PathBuf>,
    /// Threads of the process, 0: half of the cores. One task makes all decisions, and passing messages from thread to
    /// thread costs more than reading them: one thread is the cheapest until it is busy.
    pub threads: usize,
    /// Seed of placement's random choices.
    pub seed: u64,
    /// Addresses told to clients of the form interface instead of the data planes' own, for example a load balancer.
    pub invoke_addresses: Vec<String>,
    /// Requires the operators' token for requests that change something, and the cluster's token for peers. Both are
    /// files in `data_dir`.
    pub auth: bool,
    /// Serves the form interface, which existing load generators use. It requires no token, so everybody who reaches the
    /// port can register functions. The container images that they name are taken as the built-in function.
    pub form: bool,
    /// Host names with a dot by which `http` may be called, for example a load balancer's. Addresses and names without a
    /// dot always may, because a foreign page in a browser can only name a domain of its own.
    pub hosts: Vec<String>,
    /// Autoscaling of functions that configure none.
    pub autoscale: Autoscale,
    /// Placement of sandboxes.
    pub placement: Placement,
    /// Failure detection and recovery.
    pub health: Health,
}

/// Autoscaling of functions that configure none.
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

/// Time-outs of failure detection and recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// A worker without a heartbeat for this long is suspect and gets no new sandboxes.
    #[serde(with = "model::duration")]
    pub suspect_after: Duration,
    /// A worker without a heartbeat for this long is dead, and its sandboxes are replaced.
    #[serde(with = "model::duration")]
    pub dead_after: Duration,
    /// A disconnected data plane keeps its grants for this long; then their sandboxes are ended.
    #[serde(with = "model::duration")]
    pub data_plane_grace: Duration,
    /// Longest wait for workers and data planes to report after a restart, before any decision.
    #[serde(with = "model::duration")]
    pub recovery_window: Duration,
    /// Longest wait for the invocations of a draining sandbox.
    #[serde(with = "model::duration")]
    pub drain_deadline: Duration,
    /// Longest wait for a commanded sandbox to be ready; then its creation has failed, and another node is tried. The
    /// wait begins when the creations queued before it at its worker are done. If a creation is queued for as long and
    /// later ones overtake it, it is commanded again, at a worker with a shorter queue if one has room.
    #[serde(with = "model::duration")]
    pub creation_deadline: Duration,
}

impl service::Config for Config {
    fn validate(&self) -> Result<(), ConfigError> {
        self.health.validate()?;
        self.policies().map(drop)
    }
}

impl Health {
    fn validate(&self) -> Result<(), ConfigError> {
        let Self { suspect_after, dead_after, data_plane_grace, recovery_window, creation_deadline, .. } = *self;
        let problem = format!("must be at least {MIN_SUSPECT_AFTER:?}");
        ConfigError::unless(suspect_after >= MIN_SUSPECT_AFTER, "health.suspect_after", problem)?;
        let problem = format!("is {dead_after:?}, must be above health.suspect_after ({suspect_after:?})");
        ConfigError::unless(dead_after > suspect_after, "health.dead_after", problem)?;
        let problem = "must be above 0: no component could report before it is over";
        ConfigError::unless(!recovery_window.is_zero(), "health.recovery_window", problem)?;
        let limits = [
            ("health.dead_after", dead_after, "workers would be dead before they have reported"),
            (
                "health.data_plane_grace",
                data_plane_grace,
                "sandboxes of data planes would end before these report grants",
            ),
        ];
        for (key, limit, otherwise) in limits {
            let problem =
                format!("is {limit:?}, must not be below health.recovery_window ({recovery_window:?}): {otherwise}");
            ConfigError::unless(limit >= recovery_window, key, problem)?;
        }
        let problem = "must be above 0: no sandbox could be ready in time";
        ConfigError::unless(!creation_deadline.is_zero(), "health.creation_deadline", problem)
    }
}

impl Config {
    /// Returns the policies that the configuration names.
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
    use service::Config as _;

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
        assert_eq!(Config::default().validate(), Ok(()));
        for (change, key) in changes {
            let mut config = Config::default();
            change(&mut config.health);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
