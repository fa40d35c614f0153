//! `loadgen.json`: the load generator's own summary of a repetition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Outcome;

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
    /// Rows by outcome; an outcome that did not occur is absent.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Rows that the system reported as cold.
    pub cold: u64,
    /// Length of the schedule, in nanoseconds.
    pub span_ns: u64,
    /// Lag of the requests.
    pub lag: LagSummary,
    /// Wake-up delay of the threads that read responses; absent in files of versions that did not measure it.
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
    /// False if the repetition must not be used (the load generator's rule on lag and share sent).
    pub valid: bool,
    /// The reasons for `valid = false`, and other caveats.
    pub notes: Vec<String>,
    /// True if the load was stopped before its end.
    pub interrupted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = r#"{"schema_version":1,"started_unix_ns":5,"schedule_sha256":"ab","seed":1,"scheduled":3,
        "sent":3,"outcomes":{"timeout":1,"ok":2},"cold":0,"span_ns":9,"lag":{"p50_ns":1,"p99_ns":2,"max_ns":3},
        "lag_bound_ns":4,"latency_p50_ns":5,"latency_p99_ns":6,"cpu_us":7,"wall_us":8,"pacing":"p",
        "machine_floor_p99_ns":9,"valid":true,"notes":[],"interrupted":false}"#;

    #[test]
    fn a_summary_of_earlier_versions_is_read_and_lists_outcomes_by_name() {
        let summary: LoadSummary = serde_json::from_str(EARLIER).unwrap();
        assert_eq!((summary.reading, summary.outcomes[&Outcome::Timeout]), (None, 1));
        let text = serde_json::to_string(&summary).unwrap();
        assert!(text.contains(r#""outcomes":{"ok":2,"timeout":1}"#) && !text.contains("reading"), "{text}");
    }

    #[test]
    fn an_unknown_outcome_is_refused() {
        let text = EARLIER.replace("\"timeout\"", "\"late\"");
        let error = serde_json::from_str::<LoadSummary>(&text).unwrap_err().to_string();
        assert!(error.contains("unknown variant `late`"), "{error}");
    }
}
