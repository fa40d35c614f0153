//! `summary.json`: the statistics of each repetition of each point, computed from its rows by `analysis`.
//!
//! Warm-up rows are excluded everywhere unless a field says otherwise. A field that is `None` was not measured; `notes`
//! says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Anatomy, CreationOutcome, CreationPhase, DiskUse, Outcome, RatePoint, SlowdownSummary, SustainedRateTest};

/// All statistics of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this document.
    pub schema_version: u32,
    /// Git revision of the program that computed it.
    pub git_revision: String,
    /// Experiment's id.
    pub experiment: String,
    /// Scale of the run.
    pub scale: String,
    /// One entry per system, point and repetition that has rows, in this order.
    pub points: Vec<PointSummary>,
    /// Loads of a constant rate only: each point of each system over its repetitions, in the definition's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RatePoint>,
    /// Systems of the manifest that have no rows, with the reason.
    pub not_measured: BTreeMap<String, String>,
}

/// Exact quantiles of whole numbers; the unit is in the name of the field that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of values.
    pub count: u64,
    /// Least.
    pub min: i64,
    /// Median.
    pub p50: i64,
    /// 90th percentile.
    pub p90: i64,
    /// 99th percentile.
    pub p99: i64,
    /// 99.9th percentile.
    pub p999: i64,
    /// Greatest.
    pub max: i64,
}

/// One repetition of one point of one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointSummary {
    /// Name of the system.
    pub system: String,
    /// Name of the point.
    pub point: String,
    /// Number of the repetition, from 1.
    pub repetition: u32,
    /// Numbers of rows.
    pub counts: RowCounts,
    /// Offered and achieved rate; `None` without measured rows.
    pub rates: Option<Rates>,
    /// Done minus scheduled of ok rows, in nanoseconds.
    pub latency_ns: Option<Spread>,
    /// Latency minus the execution time the function reported, of ok rows that report it, in nanoseconds. Negative
    /// where a function reports more than the client saw.
    pub scheduling_ns: Option<Spread>,
    /// Sent minus scheduled of sent rows, in nanoseconds.
    pub lag_ns: Option<Spread>,
    /// Each definition of slowdown under each failure policy.
    pub slowdowns: Vec<SlowdownSummary>,
    /// Latency that a penalised failure counts with, in nanoseconds.
    pub timeout_ns: u64,
    /// Origin of `timeout_ns`, in words.
    pub timeout_from: String,
    /// Cold starts as the client saw them.
    pub cold: ColdSummary,
    /// Creations as the system recorded them; `None` without `coldstarts.csv`.
    pub creations: Option<CreationSummary>,
    /// Work of the system's components per cold start; `None` without `actions.csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anatomy: Option<Anatomy>,
    /// Resource use of each process.
    pub processes: Vec<ProcessSummary>,
    /// Use of the whole machine; `None` if it was not sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineUse>,
    /// The sustained-rate test; loads of a constant rate only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "pace")]
    pub rate_test: Option<SustainedRateTest>,
    /// Validity of the repetition.
    pub validity: Validity,
    /// Missing measurements with their reasons, and other caveats.
    pub notes: Vec<String>,
}

/// Numbers of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows in the schedule, from `loadgen.json`.
    pub scheduled: Option<u64>,
    /// Rows on record, of either phase.
    pub recorded: u64,
    /// Rows of the schedule that are not on record; `None` when the schedule's size is unknown.
    pub unaccounted: Option<u64>,
    /// Rows whose place in the schedule is on record already.
    pub duplicated: u64,
    /// Warm-up rows.
    pub warmup: u64,
    /// Measured rows.
    pub measured: u64,
    /// Measured rows that were sent.
    pub sent: u64,
    /// Measured rows by outcome; an outcome that did not occur is absent.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Impossible rows of either phase: their times are in no statistic.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub impossible: u64,
    /// Functions with a measured row.
    pub functions: u64,
}

impl RowCounts {
    /// Measured rows of outcome ok.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.outcomes.get(&Outcome::Ok).copied().unwrap_or(0)
    }
}

/// Rates over the measured window: from the first measured row's due time to the end of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Length of the window, in seconds.
    pub window_s: f64,
    /// Measured rows due per second.
    pub offered_per_s: f64,
    /// Responses of outcome ok completed within the window, of either phase, per second.
    pub achieved_per_s: f64,
}

/// Cold starts as the client saw them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdSummary {
    /// Measured rows for which the system says whether they were cold.
    pub known: u64,
    /// Measured rows that were cold.
    pub cold: u64,
    /// cold / known.
    pub share: Option<f64>,
    /// Latency of cold ok rows, in nanoseconds.
    pub latency_ns: Option<Spread>,
    /// Time cold rows waited for a new sandbox, in microseconds.
    pub wait_us: Option<Spread>,
    /// Share of the end-to-end latency of cold ok rows, without their execution, that is not the time a sandbox is
    /// modelled to take (1 − delay / (latency − execution)), in thousandths; `None` where none is modelled. Where creations
    /// are on record, only of rows whose own began after they were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_permille: Option<Spread>,
    /// The join of cold rows to creations by sandbox; `None` when either side lacks sandboxes.
    pub join: Option<ColdJoin>,
}

/// Cold rows joined to creations by sandbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdJoin {
    /// Cold rows whose sandbox has a creation on record.
    pub joined: u64,
    /// Cold rows whose sandbox has none, or that name no sandbox.
    pub unjoined: u64,
    /// Cold rows whose sandbox served another cold row before.
    pub repeated: u64,
    /// Joined rows whose sandbox's creation began before the row was sent: they waited for less than a whole creation.
    pub begun_earlier: u64,
    /// Wait for a new sandbox minus the sum of the creation's phases until its endpoint was on its way to the data plane,
    /// per joined row, in microseconds.
    pub residual_us: Option<Spread>,
    /// The same over rows whose sandbox's creation began after they were sent; there it must not be negative.
    pub residual_own_us: Option<Spread>,
    /// Share of the wait that is not the sandbox's own start (1 − (create + ready) / wait), over the same rows, in
    /// thousandths.
    pub manager_share_permille: Option<Spread>,
}

/// Creations requested within the measured window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CreationSummary {
    /// Creations by outcome; an outcome that did not occur is absent.
    pub outcomes: BTreeMap<CreationOutcome, u64>,
    /// Ready creations per second of the window.
    pub ready_per_s: Option<f64>,
    /// Phases of ready creations, in the order in which they happen; a phase that was not measured is absent.
    pub phases: Vec<PhaseSummary>,
}

/// One phase of cold starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSummary {
    /// The phase.
    pub phase: CreationPhase,
    /// Its durations, in microseconds.
    pub duration_us: Spread,
}

/// Resource use of one process over the measured part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSummary {
    /// Its name.
    pub process: String,
    /// CPU time, user and kernel, in microseconds.
    pub cpu_us: u64,
    /// CPU time per measured invocation that was sent, in microseconds.
    pub cpu_us_per_invocation: Option<f64>,
    /// Greatest resident memory, in bytes.
    pub rss_bytes: u64,
    /// Context switches.
    pub ctx_switches: u64,
}

/// Use of the whole machine over the measured part, in percent of the time of all its cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineUse {
    /// The system's own processes.
    pub system_percent: f64,
    /// The load generator.
    pub generator_percent: f64,
    /// The program that ran the experiment.
    pub runner_percent: f64,
    /// All other processes.
    pub others_percent: f64,
    /// Interrupts.
    pub interrupts_percent: f64,
    /// Other machines of the same hypervisor.
    pub steal_percent: f64,
    /// Idle.
    pub idle_percent: f64,
    /// Busy time, interrupts included, that is in no process's row, in microseconds; absent in summaries of versions that did not
    /// keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_no_row_us: Option<u64>,
    /// Activity of the disks, by any process; `None` if it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<DiskUse>,
    /// Share of the time in which the busiest disk had something to do, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busiest_disk_percent: Option<f64>,
}

/// Validity of a repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// False if the rows or an invariant forbid the use of the repetition; `None` if that is unknown, or the invariants
    /// were not checked.
    pub valid: Option<bool>,
    /// Every rule that does not hold, in words.
    pub reasons: Vec<String>,
    /// The bound that lag's p99 must keep, in nanoseconds: max(1 ms, 2 % of the median latency).
    pub lag_bound_ns: u64,
    /// p99 by which the threads that read responses woke late, in nanoseconds; it must keep the same bound. `None` where
    /// the load generator does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading_p99_ns: Option<u64>,
    /// Share of the measured schedule that was sent.
    pub sent_share: Option<f64>,
    /// p99 by which the machine oversleeps a bare absolute sleep, in nanoseconds.
    pub machine_floor_p99_ns: Option<u64>,
    /// CPU time of the load generator / wall-clock time: cores it kept busy.
    pub generator_cores: Option<f64>,
    /// True if the load was stopped before its end.
    pub interrupted: bool,
    /// True if the only reason against the repetition is that the load generator was late, which says nothing about the
    /// system.
    #[serde(default)]
    pub only_late: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_earlier_versions_are_read_and_outcomes_are_by_name() {
        let text = r#"{"scheduled":null,"recorded":5,"unaccounted":null,"duplicated":0,"warmup":1,"measured":4,"sent":4,"outcomes":{"ok":3,"refused":1},"functions":2}"#;
        let counts: RowCounts = serde_json::from_str(text).unwrap();
        assert_eq!((counts.ok(), counts.outcomes[&Outcome::Refused], counts.impossible), (3, 1, 0));
        assert_eq!(serde_json::to_string(&counts).unwrap(), text, "what did not occur is absent");
        assert_eq!(RowCounts::default().ok(), 0);
    }

    #[test]
    fn use_of_the_machine_of_earlier_versions_lacks_what_they_did_not_record() {
        let text = r#"{"system_percent":1.0,"generator_percent":2.0,"runner_percent":3.0,"others_percent":4.0,"interrupts_percent":5.0,"steal_percent":6.0,"idle_percent":79.0}"#;
        let machine: MachineUse = serde_json::from_str(text).unwrap();
        assert_eq!((machine.in_no_row_us, machine.disks, machine.busiest_disk_percent), (None, None, None));
        assert_eq!(serde_json::to_string(&machine).unwrap(), text);
    }
}
