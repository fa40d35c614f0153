//! Whether a constant rate was kept up: the rule of the methodology, applied to the rows of one repetition.

use record::{ColdStart, Judgement, LoadSummary, Outcome, Pace, Rates, RowCounts, SampledWindow, Validity};
use stats::{Slope, Trend, quantile, trend};

use crate::{
    rows::{Row, Rows},
    spread::signed,
};

/// Least share of the offered rate that must be achieved.
pub(crate) const ACHIEVED_SHARE: f64 = 0.95;
/// Share of failures that must not be reached.
pub(crate) const FAILED_SHARE: f64 = 0.01;
/// The upper bound of the latency's slope must stay below this, in percent of its median per minute.
pub(crate) const SLOPE_PERCENT_PER_MIN: f64 = 5.0;
/// Blocks of rows that a window is divided into to find its slope, at most, and least rows of one.
const BLOCKS_MAX: usize = 100;
const BLOCK_ROWS_MIN: usize = 5;
/// Least length of a window whose slope says anything, in seconds.
const WINDOW_S: f64 = 60.0;
/// Least rows of such a window.
const ROWS: u64 = 100;
/// The objective: greatest 99th percentile of latency, in nanoseconds.
const OBJECTIVE_NS: u64 = 1_000_000_000;

/// What the rule looks at besides rows.
pub(crate) struct Measured<'a> {
    pub(crate) counts: &'a RowCounts,
    pub(crate) rates: Option<Rates>,
    pub(crate) validity: &'a Validity,
    /// What a penalised failure counts as, in nanoseconds.
    pub(crate) timeout_ns: u64,
    /// Whether invocations come in bursts: then no rate is asked for that could be kept up.
    pub(crate) in_bursts: bool,
    /// Between which samples the CPU time of processes is the difference.
    pub(crate) sampled: Option<SampledWindow>,
}

/// What the CPU time of processes is divided by: counts of the part of a repetition in which it was sampled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// ok answers of either phase.
    pub(crate) operations: Option<u64>,
    /// Creations that became ready.
    pub(crate) creations: Option<u64>,
}

/// Judges one repetition.
pub(crate) fn pace(rows: &Rows, measured: &Measured<'_>, done: Done) -> Pace {
    let growth = growth(rows);
    let p99_ns = p99_penalised_ns(rows, measured.timeout_ns);
    let upper = growth.map(|growth| growth.slope.upper);
    Pace {
        operations: done.operations,
        creations: done.creations,
        sampled_s: measured.sampled.map(|window| (window.to_unix_ns - window.from_unix_ns) as f64 / 1e9),
        slope_percent_per_min: growth.map(|growth| growth.slope.slope),
        slope_lower_percent_per_min: growth.map(|growth| growth.slope.lower),
        slope_upper_percent_per_min: upper,
        block_autocorrelation: growth.map(|growth| growth.phi),
        latency_p99_penalised_ns: p99_ns,
        sustained: judged(measured, upper, None),
        at_objective: judged(measured, upper, p99_ns),
    }
}

impl Done {
    /// Of a repetition; what was ready counts only if every ready creation says when it was.
    pub(crate) fn of(
        rows: &Rows,
        load: Option<&LoadSummary>,
        creations: Option<&[ColdStart]>,
        window: Option<SampledWindow>,
    ) -> Self {
        let Some((load, window)) = load.zip(window) else { return Self::default() };
        let within = |ns: i64| {
            let at = load.started_unix_ns.saturating_add(ns);
            (window.from_unix_ns..=window.to_unix_ns).contains(&at)
        };
        let measured = rows.measured.iter().filter(|row| row.outcome == Outcome::Ok).filter_map(|row| row.done_ns);
        let all = measured.chain(rows.warmup_done_ns.iter().copied());
        let ready_ns = |creation: &ColdStart| Some(creation.requested_ns + signed(creation.to_ready_us()? * 1_000));
        let ready = |creations: &[ColdStart]| -> Option<u64> {
            let ready = creations.iter().filter(|creation| creation.outcome == "ready").map(ready_ns);
            let ready: Vec<i64> = ready.collect::<Option<_>>()?;
            Some(ready.into_iter().filter(|ns| within(*ns)).count() as u64)
        };
        Self {
            operations: Some(all.filter(|done| within(signed(*done))).count() as u64),
            creations: creations.and_then(ready),
        }
    }
}

/// Slope of the latency of ok rows over when they were due, and its bounds, in percent of their median per minute.
///
/// Rows that follow each other depend on each other, and a pause of the machine is not growth: the slope is that of means
/// of blocks, by an estimator that a few of them do not move, and its bounds allow for blocks that depend on each other.
fn growth(rows: &Rows) -> Option<Trend> {
    let ok = rows.measured.iter().filter(|row| row.outcome == Outcome::Ok);
    let mut points: Vec<(u64, u64)> = ok.filter_map(|row| Some((row.scheduled_ns, row.latency_ns()?))).collect();
    points.sort_by_key(|(due, _)| *due);
    let size = points.len().div_ceil(BLOCKS_MAX).max(BLOCK_ROWS_MIN);
    let blocks: Vec<(f64, f64)> = points.rchunks_exact(size).map(middle).collect();
    let found = trend(&blocks)?;
    let mut latencies: Vec<u64> = points.into_iter().map(|(_, latency)| latency).collect();
    latencies.sort_unstable();
    let median = quantile(&latencies, 0.5).filter(|median| *median > 0)? as f64;
    let percent = |slope: f64| 100.0 * slope / median;
    let Slope { slope, lower, upper } = found.slope;
    Some(Trend { slope: Slope { slope: percent(slope), lower: percent(lower), upper: percent(upper) }, ..found })
}

/// Of a block: when its rows were due, in minutes, and how long they took, in nanoseconds, both in their mean.
fn middle(block: &[(u64, u64)]) -> (f64, f64) {
    let sum = |value: fn(&(u64, u64)) -> u64| block.iter().map(|row| value(row) as f64).sum::<f64>();
    let count = block.len() as f64;
    (sum(|(due, _)| *due) / count / 60e9, sum(|(_, latency)| *latency) / count)
}

/// Failed rows count with the time-out, or with how long they took where that is more.
fn p99_penalised_ns(rows: &Rows, timeout_ns: u64) -> Option<u64> {
    let latency = |row: &Row| match row.outcome {
        Outcome::Ok => row.latency_ns().unwrap_or(timeout_ns),
        _ => row.latency_ns().unwrap_or(0).max(timeout_ns),
    };
    let mut latencies: Vec<u64> = rows.measured.iter().map(latency).collect();
    latencies.sort_unstable();
    quantile(&latencies, 0.99)
}

/// Whether a window is long enough, and has enough rows, for its slope to say anything. It begins with the first measured
/// row, up to one gap after the warm-up.
pub(crate) fn is_long(rates: &Rates, rows: u64) -> bool {
    rates.window_s + 1.0 / rates.offered_per_s >= WINDOW_S && rows >= ROWS
}

/// Why nothing is judged of a repetition that may not be used.
pub(crate) fn not_valid(validity: &Validity) -> Vec<String> {
    let not_known = "the repetition is not known to be valid".to_owned();
    std::iter::once(not_known).chain(validity.reasons.iter().cloned()).collect()
}

/// Whether a rate was kept up; with a 99th percentile given, also whether that meets the objective.
fn judged(measured: &Measured<'_>, slope_upper: Option<f64>, p99_ns: Option<u64>) -> Judgement {
    let not_judged = |reasons: Vec<String>| Judgement { verdict: None, reasons };
    if measured.validity.valid != Some(true) {
        return not_judged(not_valid(measured.validity));
    }
    if measured.in_bursts {
        return not_judged(vec!["invocations come in bursts: there is no rate to keep up".to_owned()]);
    }
    let (Some(rates), rows) = (measured.rates, measured.counts.measured) else {
        return not_judged(vec!["there is no measured window".to_owned()]);
    };
    let mut broken = Vec::new();
    let achieved = rates.achieved_per_s / rates.offered_per_s;
    if achieved < ACHIEVED_SHARE {
        broken.push(format!("{:.1} % of the offered rate was achieved, below 95 %", 100.0 * achieved));
    }
    let failed = 1.0 - measured.counts.outcomes.get("ok").copied().unwrap_or(0) as f64 / rows.max(1) as f64;
    if failed >= FAILED_SHARE {
        broken.push(format!("{:.2} % of the invocations failed, not below 1 %", 100.0 * failed));
    }
    if let Some(p99) = p99_ns.filter(|p99| *p99 > OBJECTIVE_NS) {
        broken.push(format!("latency p99 is {:.2} s with failures penalised, above 1 s", p99 as f64 / 1e9));
    }
    let is_long = is_long(&rates, rows);
    match slope_upper {
        Some(upper) if is_long && upper >= SLOPE_PERCENT_PER_MIN => {
            broken.push(format!("latency may grow by {upper:.1} % of its median per minute, not below 5 %"));
        }
        None if is_long => broken.push("latency has no slope: too few answers".to_owned()),
        _ => {}
    }
    if !broken.is_empty() {
        return Judgement { verdict: Some(false), reasons: broken };
    }
    if is_long {
        return Judgement { verdict: Some(true), reasons: Vec::new() };
    }
    not_judged(vec![format!("a window of {:.0} s and {rows} rows is too short: needs 60 s and 100", rates.window_s)])
}

#[cfg(test)]
mod tests;
