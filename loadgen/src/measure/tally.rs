//! Running figures of a replay: what the live view shows and what the summary is made from.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use record::{ImpossibleRows, Invocation, Outcome, Phase};
use stats::{Sending, Sent};

use crate::measure::{errors::Errors, histogram::latency_histogram};

/// Figures over the rows written so far.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Rows by outcome.
    pub(crate) outcomes: BTreeMap<Outcome, u64>,
    /// Rows written.
    pub(crate) rows: u64,
    /// Rows that were sent.
    pub(crate) sent: u64,
    /// Rows that are neither ok nor unsent.
    pub(crate) failures: u64,
    /// Their errors.
    pub(crate) errors: Errors,
    /// Rows of which the system said whether they were cold.
    pub(crate) coldness_known: u64,
    /// Those of them that were.
    pub(crate) cold: u64,
    /// Measured rows, as the rule of a valid run needs them.
    pub(crate) sending: Sending,
    /// Rows that cannot be true: no time of theirs is in any figure.
    pub(crate) impossible: ImpossibleRows,
    /// Latency of successful measured rows, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
    /// Latency over execution time of successful measured rows that report one, in hundredths.
    pub(crate) slowdown_percent: Histogram<u64>,
    /// The latest lags, for the live view; emptied by it.
    pub(crate) recent_lag_us: Histogram<u64>,
}

impl Tally {
    /// Nothing yet; `scheduled` rows are expected.
    pub(crate) fn new(scheduled: usize) -> Self {
        Self {
            outcomes: BTreeMap::new(),
            rows: 0,
            sent: 0,
            failures: 0,
            errors: Errors::default(),
            coldness_known: 0,
            cold: 0,
            sending: Sending::with_capacity(scheduled),
            impossible: ImpossibleRows::default(),
            latency_us: latency_histogram(),
            slowdown_percent: latency_histogram(),
            recent_lag_us: latency_histogram(),
        }
    }

    /// Returns true if something was sent, and none of it succeeded.
    pub(crate) fn nothing_succeeded(&self) -> bool {
        self.sent > 0 && !self.outcomes.contains_key(&Outcome::Ok)
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: &Invocation) {
        self.rows += 1;
        *self.outcomes.entry(row.outcome).or_default() += 1;
        if !matches!(row.outcome, Outcome::Ok | Outcome::Unsent) {
            self.failures += 1;
            row.error.iter().for_each(|words| self.errors.note(words));
        }
        self.coldness_known += u64::from(row.cold.is_some());
        self.cold += u64::from(row.cold == Some(1));
        self.sent += u64::from(row.sent_ns.is_some());
        let possible = !self.impossible.note(row);
        let latency_ns = row.latency_ns().filter(|_| possible);
        let is_ok = row.outcome == Outcome::Ok;
        if row.phase == Phase::Measured {
            self.sending.observe(Sent { lag_ns: row.lag_ns(), latency_ns, is_ok });
        }
        if let Some(lag_ns) = row.lag_ns() {
            self.recent_lag_us.saturating_record(lag_ns / 1000);
        }
        if let Some(latency_ns) = latency_ns.filter(|_| is_ok && row.phase == Phase::Measured) {
            self.latency_us.saturating_record(latency_ns / 1000);
            // The run time requested is no substitute: a system that reports no execution time may have ignored it.
            if let Some(executed_us) = row.executed_us {
                // As the analysis takes it: an execution of 0 as long as the resolution of times.
                self.slowdown_percent.saturating_record(latency_ns / 10 / executed_us.max(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that succeeded after 4 µs.
    fn succeeded(executed_us: Option<u64>) -> Invocation {
        Invocation {
            function: "f".to_owned(),
            index: 0,
            phase: Phase::Measured,
            scheduled_ns: 0,
            sent_ns: Some(1_000),
            first_byte_ns: Some(4_000),
            done_ns: Some(4_000),
            requested_us: 1_000_000,
            memory_mib: 1,
            executed_us,
            queue_us: None,
            cold_us: None,
            exec_us: None,
            status: Some(200),
            outcome: Outcome::Ok,
            cold: None,
            sandbox: None,
            attempts: None,
            error: None,
            address: None,
        }
    }

    #[test]
    fn an_execution_of_nothing_gives_no_slowdown_below_one() {
        let mut tally = Tally::new(1);
        tally.add(&succeeded(Some(0)));
        // 4 µs over the resolution of execution times, which is one.
        assert_eq!(tally.slowdown_percent.max(), 400);
    }

    #[test]
    fn a_row_without_an_execution_time_has_a_latency_and_no_slowdown() {
        let mut tally = Tally::new(1);
        tally.add(&succeeded(None));
        assert_eq!((tally.latency_us.len(), tally.slowdown_percent.len()), (1, 0));
    }
}
