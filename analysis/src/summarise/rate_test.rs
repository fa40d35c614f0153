//! The sustained-rate test of docs/methodology.md, applied to the rows of one repetition.

use record::{
    ColdStart, CreationOutcome, LoadSummary, Outcome, RateCheck, Rates, RowCounts, SampledWindow, SustainedRateTest,
    Validity,
};
use stats::{ACHIEVED_SHARE, FAILED_SHARE, SLOPE_PERCENT_PER_MIN, Trend, is_long, quantile};

use crate::{
    rows::{Row, Rows},
    spread::signed,
};

/// The objective: greatest 99th percentile of latency, in nanoseconds.
const OBJECTIVE_NS: u64 = 1_000_000_000;

/// Inputs of the test other than the rows.
pub(crate) struct Measured<'a> {
    pub(crate) counts: &'a RowCounts,
    pub(crate) rates: Option<Rates>,
    pub(crate) validity: &'a Validity,
    /// Latency of a penalised failure, in nanoseconds.
    pub(crate) timeout_ns: u64,
    /// True if invocations come in bursts: then there is no rate to keep up with.
    pub(crate) in_bursts: bool,
    /// Between which samples the CPU time of processes is the difference.
    pub(crate) sampled: Option<SampledWindow>,
}

/// Counts over the sampled part of a repetition, as divisors of the CPU time of processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Responses of outcome ok, of either phase.
    pub(crate) operations: Option<u64>,
    /// Creations that became ready.
    pub(crate) creations: Option<u64>,
}

/// Judges one repetition.
pub(crate) fn rate_test(rows: &Rows, measured: &Measured<'_>, done: Done) -> SustainedRateTest {
    let growth = growth(rows);
    let p99_ns = p99_penalised_ns(rows, measured.timeout_ns);
    // Sustained is a claim about the system, so that the bound that is worse for it counts.
    let upper = growth.map(|growth| growth.slope.upper);
    SustainedRateTest {
        operations: done.operations,
        creations: done.creations,
        sampled_s: measured.sampled.map(|window| (window.to_unix_ns - window.from_unix_ns) as f64 / 1e9),
        slope_percent_per_min: growth.map(|growth| growth.slope.slope),
        slope_lower_percent_per_min: growth.map(|growth| growth.slope.lower),
        slope_upper_percent_per_min: upper,
        block_autocorrelation: growth.map(|growth| growth.phi),
        latency_p99_penalised_ns: p99_ns,
        sustained: check(measured, upper, None),
        at_objective: check(measured, upper, p99_ns),
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
        // The CPU time between the samples includes that of responses to warm-up rows.
        let all = measured.chain(rows.warmup_done_ns.iter().copied());
        let ready_ns = |creation: &ColdStart| Some(creation.requested_ns + signed(creation.to_ready_us()? * 1_000));
        let ready = |creations: &[ColdStart]| -> Option<u64> {
            let ready = creations.iter().filter(|creation| creation.outcome == CreationOutcome::Ready).map(ready_ns);
            // Leaving out one of unknown time would make each of the others look more expensive.
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
fn growth(rows: &Rows) -> Option<Trend> {
    let ok = rows.measured.iter().filter(|row| row.outcome == Outcome::Ok);
    stats::growth(ok.filter_map(|row| Some((row.scheduled_ns, row.latency_ns()?))).collect())
}

/// Failed rows count with the time-out, or with how long they took where that is more.
fn p99_penalised_ns(rows: &Rows, timeout_ns: u64) -> Option<u64> {
    let latency = |row: &Row| match row.outcome {
        Outcome::Ok => row.latency_ns().unwrap_or(timeout_ns),
        // A refusal comes quickly and must not make the system look fast.
        _ => row.latency_ns().unwrap_or(0).max(timeout_ns),
    };
    let mut latencies: Vec<u64> = rows.measured.iter().map(latency).collect();
    latencies.sort_unstable();
    quantile(&latencies, 0.99)
}

/// The reasons why a repetition that must not be used is not tested.
pub(crate) fn not_valid(validity: &Validity) -> Vec<String> {
    let not_known = "the repetition is not known to be valid".to_owned();
    std::iter::once(not_known).chain(validity.reasons.iter().cloned()).collect()
}

/// Tests a rate; with `p99_ns` also against the objective.
fn check(measured: &Measured<'_>, slope_upper: Option<f64>, p99_ns: Option<u64>) -> RateCheck {
    let undecided = |reasons: Vec<String>| RateCheck { holds: None, reasons };
    if measured.validity.valid != Some(true) {
        return undecided(not_valid(measured.validity));
    }
    if measured.in_bursts {
        return undecided(vec!["invocations come in bursts: there is no rate to keep up".to_owned()]);
    }
    let (Some(rates), rows) = (measured.rates, measured.counts.measured) else {
        return undecided(vec!["there is no measured window".to_owned()]);
    };
    let mut broken = Vec::new();
    let achieved = rates.achieved_per_s / rates.offered_per_s;
    if achieved < ACHIEVED_SHARE {
        broken.push(format!("{:.1} % of the offered rate was achieved, below 95 %", 100.0 * achieved));
    }
    let failed = 1.0 - measured.counts.ok() as f64 / rows.max(1) as f64;
    if failed >= FAILED_SHARE {
        broken.push(format!("{:.2} % of the invocations failed, not below 1 %", 100.0 * failed));
    }
    if let Some(p99) = p99_ns.filter(|p99| *p99 > OBJECTIVE_NS) {
        broken.push(format!("latency p99 is {:.2} s with failures penalised, above 1 s", p99 as f64 / 1e9));
    }
    let is_long = is_long(rates.window_s, rates.offered_per_s, rows);
    match slope_upper {
        Some(upper) if is_long && upper >= SLOPE_PERCENT_PER_MIN => {
            broken.push(format!("latency may grow by {upper:.1} % of its median per minute, not below 5 %"));
        }
        None if is_long => broken.push("latency has no slope: too few responses".to_owned()),
        _ => {}
    }
    // A share that was missed needs no long window; only growth does.
    if !broken.is_empty() {
        return RateCheck { holds: Some(false), reasons: broken };
    }
    if is_long {
        return RateCheck { holds: Some(true), reasons: Vec::new() };
    }
    undecided(vec![format!("a window of {:.0} s and {rows} rows is too short: needs 60 s and 100", rates.window_s)])
}

#[cfg(test)]
mod tests;
