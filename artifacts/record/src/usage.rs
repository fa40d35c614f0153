//! `processes.csv` and `nodes.csv`: what each process and each node used, and between which moments.

use serde::{Deserialize, Serialize};

/// What one process used over the measured part of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Its role, for example `control-plane`; the whole machine is `machine`.
    pub process: String,
    /// CPU time in user mode, in microseconds.
    pub cpu_user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub cpu_sys_us: u64,
    /// Greatest resident memory, in bytes.
    pub rss_bytes: u64,
    /// Context switches, voluntary and not.
    pub ctx_switches: u64,
}

/// What one node holds at the end of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeUsage {
    /// Its name.
    pub node: String,
    /// `ready`, `suspect`, `dead` or `draining`.
    pub state: String,
    /// Sandboxes on it.
    pub sandboxes: u64,
    /// CPU reserved, in millicores.
    pub cpu_reserved_millicores: u64,
    /// Memory reserved, in MiB.
    pub memory_reserved_mib: u64,
}

/// What a reader of `processes.csv` needs of `repetition.json`; the runner writes more into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledRepetition {
    /// Between which moments `processes.csv` is the difference; empty when too few samples were taken.
    pub window: Option<SampledWindow>,
}

/// The part of a repetition between two samples of what processes had used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledWindow {
    /// Its beginning, in nanoseconds since the Unix epoch.
    pub from_unix_ns: i64,
    /// Its end, in nanoseconds since the Unix epoch.
    pub to_unix_ns: i64,
}
