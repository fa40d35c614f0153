//! The part of `summary.json` about loads of a constant rate: the sustained-rate test of each repetition, and each
//! point over its repetitions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Outcome;

/// The sustained-rate test of one repetition, with its inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SustainedRateTest {
    /// Responses of outcome ok, of either phase, between the two samples that `processes.csv` is the difference of;
    /// `None` if the instants of these are unknown.
    pub operations: Option<u64>,
    /// Creations that became ready between these two samples; `None` when it is not known which did, or when samples were
    /// taken.
    #[serde(default)]
    pub creations: Option<u64>,
    /// Time between these two samples, in seconds.
    #[serde(default)]
    pub sampled_s: Option<f64>,
    /// Change of latency over the window, in percent of its median per minute: the slope of Theil and Sen over means of
    /// blocks of rows.
    pub slope_percent_per_min: Option<f64>,
    /// Lower 95 % bound of that change.
    #[serde(default)]
    pub slope_lower_percent_per_min: Option<f64>,
    /// Upper 95 % bound of that change.
    pub slope_upper_percent_per_min: Option<f64>,
    /// Autocorrelation φ of neighbouring blocks around the slope, for which the two bounds allow; absent in summaries of
    /// versions whose bounds did not.
    #[serde(default)]
    pub block_autocorrelation: Option<f64>,
    /// 99th percentile of latency over all measured rows, failed ones counting with the time-out, in nanoseconds.
    pub latency_p99_penalised_ns: Option<u64>,
    /// The rate was sustained.
    pub sustained: RateCheck,
    /// The rate was sustained, with a 99th percentile of latency, failures penalised, of at most 1 s.
    pub at_objective: RateCheck,
}

/// The result of a check of a rate, with the reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateCheck {
    /// `None` if the repetition cannot decide it, for example because its window is too short.
    #[serde(rename = "verdict")]
    pub holds: Option<bool>,
    /// Every rule that does not hold, or the reason why the check is undecided, in words.
    pub reasons: Vec<String>,
}

/// A number over repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Repetitions that have it.
    pub count: u64,
    /// Median over them.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// 95 % bootstrap interval of the median, from five repetitions on.
    pub interval: Option<(f64, f64)>,
}

/// One point of one system over all its repetitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatePoint {
    /// Name of the system.
    pub system: String,
    /// Name of the point.
    pub point: String,
    /// The values that distinguish the point, by dotted keys of the definition.
    pub values: BTreeMap<String, String>,
    /// Repetitions with rows.
    pub repetitions: u64,
    /// Repetitions known to be valid.
    pub valid_repetitions: u64,
    /// Offered rate, per second.
    pub offered_per_s: Option<Estimate>,
    /// Achieved rate, per second.
    pub achieved_per_s: Option<Estimate>,
    /// Measured rows of outcome ok, in percent.
    pub ok_percent: Option<Estimate>,
    /// Measured rows over all repetitions by outcome, without ok.
    pub failures: BTreeMap<Outcome, u64>,
    /// Median latency of ok rows, in milliseconds.
    pub latency_p50_ms: Option<Estimate>,
    /// 99th percentile of latency of ok rows, in milliseconds.
    pub latency_p99_ms: Option<Estimate>,
    /// 99.9th percentile of latency of ok rows, in milliseconds.
    pub latency_p999_ms: Option<Estimate>,
    /// Cold rows in percent of the rows for which the system reports it.
    pub cold_percent: Option<Estimate>,
    /// Share of a cold start's end-to-end latency that is not the modelled delay of its sandbox, in percent: the median over
    /// rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_percent: Option<Estimate>,
    /// 99th percentile of the load generator's lag, in milliseconds.
    pub lag_p99_ms: Option<Estimate>,
    /// Upper 95 % bound of the latency's change, in percent of its median per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope_upper_percent_per_min: Option<Estimate>,
    /// Autocorrelation φ of neighbouring blocks of rows, for which that bound allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_autocorrelation: Option<Estimate>,
    /// CPU time per ok response of each process; equal processes (`worker-1`, `worker-2`) are taken together.
    pub processes: Vec<ProcessCost>,
    /// CPU time per ok response of all processes of the system, in microseconds.
    pub system_cpu_us: Option<Estimate>,
    /// CPU time per ok response of the whole machine, load generator included, in microseconds.
    pub machine_cpu_us: Option<Estimate>,
    /// Cores of the machine that were in use, load generator included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_cores: Option<Estimate>,
    /// The rate was sustained in every repetition.
    pub sustained: RateCheck,
    /// The rate was sustained in every repetition, with a 99th percentile of at most 1 s.
    pub at_objective: RateCheck,
}

/// CPU time per ok response of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessCost {
    /// Its name, without the number among its equals.
    pub process: String,
    /// CPU time, user and kernel, per ok response, in microseconds.
    pub cpu_us: Estimate,
}
