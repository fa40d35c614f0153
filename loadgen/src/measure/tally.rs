//! Running figures of a replay: what the live view shows and what the summary is made from.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use record::{ImpossibleRows, Invocation, LagSummary, Outcome, Phase};

use crate::measure::histogram::latency_histogram;

/// Figures over the rows written so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Rows by outcome.
    pub(crate) outcomes: BTreeMap<&'static str, u64>,
    /// Rows written.
    pub(crate) rows: u64,
    /// Rows that were sent.
    pub(crate) sent: u64,
    /// Rows that are neither ok nor unsent.
    pub(crate) failures: u64,
    /// Rows of which the system said whether they were cold.
    pub(crate) coldness_known: u64,
    /// Those of them that were.
    pub(crate) cold: u64,
    /// Measured rows, and those of them that succeeded.
    pub(crate) measured: u64,
    pub(crate) measured_ok: u64,
    /// Rows that cannot be true: no time of theirs is in any figure.
    pub(crate) impossible: ImpossibleRows,
    /// Latency of successful measured rows, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
    /// Latency over execution time of successful measured rows, in hundredths.
    pub(crate) slowdown_percent: Histogram<u64>,
    /// The latest lags, for the live view; emptied by it.
    pub(crate) recent_lag_us: Histogram<u64>,
    lags_ns: Vec<u64>,
    latencies_ns: Vec<u64>,
}

impl Tally {
    /// Nothing yet; `scheduled` rows are expected.
    pub(crate) fn new(scheduled: usize) -> Self {
        Self {
            outcomes: BTreeMap::new(),
            rows: 0,
            sent: 0,
            failures: 0,
            coldness_known: 0,
            cold: 0,
            measured: 0,
            measured_ok: 0,
            impossible: ImpossibleRows::default(),
            latency_us: latency_histogram(),
            slowdown_percent: latency_histogram(),
            recent_lag_us: latency_histogram(),
            lags_ns: Vec::with_capacity(scheduled),
            latencies_ns: Vec::with_capacity(scheduled),
        }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: &Invocation) {
        self.rows += 1;
        *self.outcomes.entry(row.outcome.name()).or_default() += 1;
        self.failures += u64::from(!matches!(row.outcome, Outcome::Ok | Outcome::Unsent));
        self.coldness_known += u64::from(row.cold.is_some());
        self.cold += u64::from(row.cold == Some(1));
        self.sent += u64::from(row.sent_ns.is_some());
        if row.phase == Phase::Measured {
            self.measured += 1;
            self.measured_ok += u64::from(row.outcome == Outcome::Ok);
        }
        if self.impossible.note(row) {
            return;
        }
        if let Some(lag_ns) = row.lag_ns() {
            self.recent_lag_us.saturating_record(lag_ns / 1000);
            if row.phase == Phase::Measured {
                self.lags_ns.push(lag_ns);
            }
        }
        let latency = row.latency_ns().filter(|_| row.outcome == Outcome::Ok && row.phase == Phase::Measured);
        if let Some(latency_ns) = latency {
            self.latencies_ns.push(latency_ns);
            self.latency_us.saturating_record(latency_ns / 1000);
            let executed_us = row.executed_us.filter(|us| *us > 0).unwrap_or(row.requested_us).max(1);
            self.slowdown_percent.saturating_record(latency_ns / 10 / executed_us);
        }
    }

    /// Lag over the measured rows that were sent, exact.
    pub(crate) fn lag(&mut self) -> LagSummary {
        self.lags_ns.sort_unstable();
        let at = |q| stats::quantile(&self.lags_ns, q).unwrap_or(0);
        LagSummary { p50_ns: at(0.5), p99_ns: at(0.99), max_ns: at(1.0) }
    }

    /// Median and 99th percentile latency of the successful measured rows, in nanoseconds, exact; 0 when there are none.
    pub(crate) fn latency_ns(&mut self) -> [u64; 2] {
        self.latencies_ns.sort_unstable();
        [0.5, 0.99].map(|q| stats::quantile(&self.latencies_ns, q).unwrap_or(0))
    }
}
