//! Impossible rows. A repetition that has one was not measured correctly, and nothing is computed from it.

use std::collections::BTreeMap;

use crate::{Invocation, Outcome};

/// The reason why a row is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Impossible {
    /// Sent before it was due, which no load generator of an open load does.
    SentEarly,
    /// Its response began before it was sent, or after it was complete.
    FirstByteOutside,
    /// Done before it was due or sent; a success also in the instant in which it was sent, because a response takes
    /// time.
    DoneEarly,
    /// A success without an instant at which it was sent, or at which its response was complete.
    SuccessWithoutTimes,
    /// The function reports an execution longer than the time from sending to the complete response.
    ExecutionTooLong,
    /// The system reports a wait or an execution longer than that time.
    SystemTimeTooLong,
}

/// Reported times are whole microseconds, rounded.
const ROUNDING_US: u64 = 1;
/// Reported times are of another clock. Clocks of two machines run at rates that differ by at most 500 ppm each while they
/// are adjusted (the limit of `adjtimex`): together by one part in this many.
const CLOCK_RATE_PARTS: u64 = 1_000;

impl Invocation {
    /// The reason why this row is impossible; `None` if it is possible.
    #[must_use]
    pub fn impossible(&self) -> Option<Impossible> {
        let (sent, first, done) = (self.sent_ns, self.first_byte_ns, self.done_ns);
        let before = |a: Option<u64>, b: Option<u64>| a.zip(b).is_some_and(|(a, b)| a < b);
        if before(sent, Some(self.scheduled_ns)) {
            return Some(Impossible::SentEarly);
        }
        if before(done, sent) || before(done, Some(self.scheduled_ns)) {
            return Some(Impossible::DoneEarly);
        }
        // A refusal may be decided without waiting for anything; a response takes time.
        let is_instant = sent.zip(done).is_some_and(|(sent, done)| done <= sent);
        if is_instant && self.outcome == Outcome::Ok {
            return Some(Impossible::DoneEarly);
        }
        if before(first, sent) || before(done, first) {
            return Some(Impossible::FirstByteOutside);
        }
        let Some((sent, done)) = sent.zip(done) else {
            return (self.outcome == Outcome::Ok).then_some(Impossible::SuccessWithoutTimes);
        };
        // Rounded up, because reported times are rounded as well.
        let spent_us = (done - sent).div_ceil(1_000);
        let longest_us = spent_us + spent_us / CLOCK_RATE_PARTS + ROUNDING_US;
        if self.executed_us.is_some_and(|executed| executed > longest_us) {
            return Some(Impossible::ExecutionTooLong);
        }
        let of_system = [self.queue_us, self.cold_us, self.exec_us];
        of_system.into_iter().flatten().any(|us| us > longest_us).then_some(Impossible::SystemTimeTooLong)
    }
}

impl Impossible {
    /// The reason in words, after "n rows".
    fn words(self) -> &'static str {
        match self {
            Self::SentEarly => "sent before they were due",
            Self::FirstByteOutside => "whose response began before they were sent or after it ended",
            Self::DoneEarly => "done before they were sent or, with success, in no time",
            Self::SuccessWithoutTimes => "that succeeded without having been sent or answered",
            Self::ExecutionTooLong => "with an execution time longer than the invocation took",
            Self::SystemTimeTooLong => "with a time in the system longer than the invocation took",
        }
    }
}

/// Counts impossible rows in a pass over all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImpossibleRows {
    found: BTreeMap<Impossible, u64>,
    /// Index in the schedule of the first one.
    first: Option<u64>,
}

impl ImpossibleRows {
    /// Counts the row if it is impossible, and returns true then.
    pub fn note(&mut self, row: &Invocation) -> bool {
        let Some(why) = row.impossible() else { return false };
        *self.found.entry(why).or_default() += 1;
        self.first.get_or_insert(row.index);
        true
    }

    /// Impossible rows of all kinds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.found.values().sum()
    }

    /// The reason in words; `None` without impossible rows.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let first = self.first?;
        let each: Vec<String> = self.found.iter().map(|(why, count)| format!("{count} {}", why.words())).collect();
        Some(format!("impossible rows: {} (the first is that of index {first})", each.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Phase;

    /// Due after 1 ms, sent 0.1 ms later, and done after another 5 ms; each time that is reported is all of that.
    fn row() -> Invocation {
        Invocation {
            function: "f".to_owned(),
            index: 3,
            phase: Phase::Measured,
            scheduled_ns: 1_000_000,
            sent_ns: Some(1_100_000),
            first_byte_ns: Some(1_100_000),
            done_ns: Some(6_100_000),
            requested_us: 1,
            memory_mib: 1,
            executed_us: Some(5_000),
            queue_us: Some(5_000),
            cold_us: Some(5_000),
            exec_us: Some(5_000),
            status: Some(200),
            outcome: Outcome::Ok,
            cold: Some(1),
            sandbox: None,
            attempts: None,
            error: None,
            address: None,
        }
    }

    /// Ends a row that was sent after 1.1 ms then, with no time for anything else.
    fn at_once(row: &mut Invocation, done_ns: u64) {
        (row.first_byte_ns, row.done_ns) = (None, Some(done_ns));
        (row.executed_us, row.queue_us, row.cold_us, row.exec_us) = (None, None, None, None);
    }

    #[test]
    fn each_impossibility_is_found_and_its_bound_is_possible() {
        assert_eq!(row().impossible(), None);
        type Change = fn(&mut Invocation);
        let cases: [(Change, Option<Impossible>); 18] = [
            (|row| row.sent_ns = Some(1_000_000), None),
            (|row| row.sent_ns = Some(999_999), Some(Impossible::SentEarly)),
            (|row| row.first_byte_ns = Some(6_100_000), None),
            (|row| row.first_byte_ns = Some(1_099_999), Some(Impossible::FirstByteOutside)),
            (|row| row.first_byte_ns = Some(6_100_001), Some(Impossible::FirstByteOutside)),
            (|row| row.done_ns = Some(1_099_999), Some(Impossible::DoneEarly)),
            (|row| (row.sent_ns, row.first_byte_ns, row.done_ns) = (None, None, Some(1)), Some(Impossible::DoneEarly)),
            (|row| at_once(row, 1_100_000), Some(Impossible::DoneEarly)),
            (|row| at_once(row, 1_100_001), None),
            // What is refused before anything is sent is done at once.
            (|row| (at_once(row, 1_100_000), row.outcome = Outcome::Refused).1, None),
            (|row| row.done_ns = None, Some(Impossible::SuccessWithoutTimes)),
            (|row| (row.sent_ns, row.first_byte_ns) = (None, None), Some(Impossible::SuccessWithoutTimes)),
            (|row| (row.done_ns, row.outcome) = (None, Outcome::Error), None),
            (|row| row.executed_us = Some(5_006), None), // 5,000, a thousandth of it for the clocks, and 1 for rounding
            (|row| row.executed_us = Some(5_007), Some(Impossible::ExecutionTooLong)),
            (|row| row.executed_us = Some(1 << 63), Some(Impossible::ExecutionTooLong)),
            (|row| row.cold_us = Some(5_007), Some(Impossible::SystemTimeTooLong)),
            (|row| row.queue_us = Some(u64::MAX), Some(Impossible::SystemTimeTooLong)),
        ];
        for (place, (change, expected)) in cases.into_iter().enumerate() {
            let mut changed = row();
            change(&mut changed);
            assert_eq!(changed.impossible(), expected, "case {place}: {changed:?}");
        }
    }

    #[test]
    fn impossible_rows_are_counted_by_kind_and_the_first_is_named() {
        let mut rows = ImpossibleRows::default();
        assert!(!rows.note(&row()));
        assert_eq!((rows.count(), rows.reason()), (0, None));
        for index in [7, 8] {
            assert!(rows.note(&Invocation { index, done_ns: Some(1_000_001), ..row() }));
        }
        assert!(rows.note(&Invocation { executed_us: Some(1 << 63), ..row() }));
        let reason = "impossible rows: 2 done before they were sent or, with success, in no time, 1 with an execution time longer than the invocation took \
                      (the first is that of index 7)";
        assert_eq!((rows.count(), rows.reason().as_deref()), (3, Some(reason)));
    }
}
