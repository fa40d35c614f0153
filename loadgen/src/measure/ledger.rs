//! The ledger of a run: when invocations were sent, and how they ended.
//!
//! Every thread writes here and one reads, every 100 ms, so that no invocation pays for waking a writer. The time of
//! sending is kept apart from the end, so that an invocation whose end never comes still has its row.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use record::Outcome;

use crate::{http::result::InvocationResult, signals::Signals};

/// The end of one invocation.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its position in the schedule.
    pub(crate) index: usize,
    /// Time of the response's first byte, in nanoseconds from the start.
    pub(crate) first_byte_ns: Option<u64>,
    /// Time of the complete response or of the failure, in nanoseconds from the start.
    pub(crate) done_ns: Option<u64>,
    /// HTTP status, if there was a response.
    pub(crate) status: Option<u16>,
    /// The signals of the response.
    pub(crate) signals: Signals,
    /// Outcome, execution time, and what went wrong.
    pub(crate) result: InvocationResult,
}

impl Finished {
    /// An invocation that ended without a response.
    pub(crate) fn failed(index: usize, done_ns: u64, outcome: Outcome, error: impl Into<Box<str>>) -> Self {
        Self {
            index,
            first_byte_ns: None,
            done_ns: Some(done_ns),
            status: None,
            signals: Signals::default(),
            result: InvocationResult { outcome, executed_us: None, error: Some(error.into()) },
        }
    }
}

/// All invocations of a run. Bounded by the schedule's length.
#[derive(Debug)]
pub(crate) struct Ledger {
    sent_ns: Box<[AtomicU64]>,
    finished: Mutex<Vec<Finished>>,
}

/// Stands for "not sent".
const UNSENT: u64 = u64::MAX;

impl Ledger {
    /// A ledger for a schedule of `scheduled` rows.
    pub(crate) fn new(scheduled: usize) -> Self {
        Self { sent_ns: (0..scheduled).map(|_| AtomicU64::new(UNSENT)).collect(), finished: Mutex::new(Vec::new()) }
    }

    /// Records that an invocation is being written to the kernel; trying another connection keeps the first time.
    pub(crate) fn sent(&self, index: usize, now_ns: u64) {
        if let Some(cell) = self.sent_ns.get(index) {
            let _ = cell.compare_exchange(UNSENT, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Time at which an invocation was sent, in nanoseconds from the start.
    pub(crate) fn sent_ns(&self, index: usize) -> Option<u64> {
        self.sent_ns.get(index).map(|cell| cell.load(Ordering::Relaxed)).filter(|sent| *sent != UNSENT)
    }

    /// Takes back that an invocation was sent: this machine could not, for want of a port or a file descriptor.
    pub(crate) fn unsend(&self, index: usize) {
        if let Some(cell) = self.sent_ns.get(index) {
            cell.store(UNSENT, Ordering::Relaxed);
        }
    }

    /// Notes the end of an invocation.
    pub(crate) fn finish(&self, finished: Finished) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
    }

    /// Moves the ends noted since the last call into `into`, which comes back empty for the next ones.
    pub(crate) fn drain(&self, into: &mut Vec<Finished>) {
        into.clear();
        std::mem::swap(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sending_counts_until_it_is_taken_back() {
        let ledger = Ledger::new(2);
        assert_eq!(ledger.sent_ns(0), None);
        ledger.sent(0, 5);
        ledger.sent(0, 9);
        assert_eq!((ledger.sent_ns(0), ledger.sent_ns(1), ledger.sent_ns(2)), (Some(5), None, None));
        ledger.unsend(0);
        assert_eq!(ledger.sent_ns(0), None);
    }

    #[test]
    fn each_end_is_drained_once() {
        let ledger = Ledger::new(1);
        ledger.finish(Finished::failed(0, 7, Outcome::Error, "refused"));
        let mut ends = Vec::new();
        ledger.drain(&mut ends);
        assert_eq!(ends.len(), 1);
        ledger.drain(&mut ends);
        assert!(ends.is_empty());
    }
}
