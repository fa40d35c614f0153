//! Configuration of the control plane. Every key has a default.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

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
    #[serde(with = "humantime_serde")]
    pub suspect_after: Duration,
    /// A worker silent for this long is dead, and its sandboxes are replaced.
    #[serde(with = "humantime_serde")]
    pub dead_after: Duration,
    /// A vanished data plane keeps its slots for this long; then their sandboxes are ended.
    #[serde(with = "humantime_serde")]
    pub data_plane_grace: Duration,
    /// After a restart, longest wait for workers and data planes to report before deciding anything.
    #[serde(with = "humantime_serde")]
    pub recovery_window: Duration,
    /// Longest wait for invocations of a sandbox that leaves service.
    #[serde(with = "humantime_serde")]
    pub drain_deadline: Duration,
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
        }
    }
}
