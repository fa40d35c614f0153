//! One snapshot of the cluster: the response of `GET /v1/top`. Unknown fields are ignored, so that a newer control plane can
//! be watched.

use serde::{Deserialize, Serialize};

/// Counts and levels at one moment.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Snapshot {
    /// Of the control plane's clock, in microseconds.
    pub(super) at_us: u64,
    pub(super) cluster: Cluster,
    /// The most active first.
    pub(super) functions: Vec<FunctionCounts>,
    /// The most loaded first.
    pub(super) nodes: Vec<Node>,
    pub(super) phases: Vec<PhaseCounts>,
}

/// The cluster in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cluster {
    pub(super) leader: bool,
    pub(super) epoch: u32,
    pub(super) uptime_ms: u64,
    pub(super) functions: usize,
    pub(super) functions_unschedulable: usize,
    pub(super) data_planes: Vec<String>,
    pub(super) nodes_ready: usize,
    pub(super) nodes_suspect: usize,
    pub(super) nodes_dead: usize,
    pub(super) sandboxes_ready: usize,
    pub(super) sandboxes_starting: usize,
    pub(super) sandboxes_leaving: usize,
    pub(super) granted_slots: u64,
    pub(super) waiting: u32,
    pub(super) running: u32,
}

/// One function.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct FunctionCounts {
    /// The registration: another one counts from zero.
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) invocations: u64,
    pub(super) invocations_cold: u64,
    pub(super) creations: u64,
    pub(super) creations_failed: u64,
    pub(super) ready: u32,
    pub(super) starting: u32,
    pub(super) leaving: u32,
    pub(super) waiting: u32,
    pub(super) running: u32,
    pub(super) last_error: Option<String>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) state: String,
    /// The greater of the shares of CPU and memory that are reserved, 0 to 1.
    pub(super) reserved_share: f64,
    pub(super) sandboxes: usize,
}

/// One phase of creations, since the control plane began.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PhaseCounts {
    pub(super) phase: String,
    pub(super) sum_us: u64,
    pub(super) buckets: Vec<Bucket>,
}

/// Creations whose phase took at most this long, and longer than the bucket before.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Bucket {
    /// `None`: longer than any bound.
    pub(super) most_us: Option<u64>,
    pub(super) count: u64,
}
