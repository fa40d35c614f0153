//! `loadgen.json`: what the load generator says of its own run, beside the rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Quantiles of lag (sent minus scheduled) over the measured rows, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSummary {
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Greatest.
    pub max_ns: u64,
}

/// One run of the load generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadSummary {
    /// Version of this document.
    pub schema_version: u32,
    /// The run's start instant, in nanoseconds since the Unix epoch.
    pub started_unix_ns: i64,
    /// SHA-256 of the schedule in its file form, in hexadecimal.
    pub schedule_sha256: String,
    /// Seed the schedule was made with.
    pub seed: u64,
    /// Rows in the schedule.
    pub scheduled: u64,
    /// Rows sent.
    pub sent: u64,
    /// Rows by outcome (`ok`, `refused` …).
    pub outcomes: BTreeMap<String, u64>,
    /// Rows whose system said they were cold.
    pub cold: u64,
    /// Length of the schedule, in nanoseconds.
    pub span_ns: u64,
    /// How late requests were sent.
    pub lag: LagSummary,
    /// How late the threads woke that read responses; absent in files of versions that did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<LagSummary>,
    /// The bound that lag's p99 must keep, in nanoseconds: max(1 ms, 2 % of the median latency).
    pub lag_bound_ns: u64,
    /// Median latency of successful measured rows, in nanoseconds.
    pub latency_p50_ns: u64,
    /// 99th percentile latency of successful measured rows, in nanoseconds.
    pub latency_p99_ns: u64,
    /// CPU time the load generator used, in microseconds.
    pub cpu_us: u64,
    /// Wall-clock time of the run, in microseconds.
    pub wall_us: u64,
    /// Scheduling class and priority of the pacing thread, and its timer slack.
    pub pacing: String,
    /// p99 by which this machine oversleeps a bare absolute sleep, in nanoseconds.
    pub machine_floor_p99_ns: u64,
    /// Whether the run may be used (loadgen rule on lag and share sent).
    pub valid: bool,
    /// Why not, or other things a reader must know.
    pub notes: Vec<String>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}
