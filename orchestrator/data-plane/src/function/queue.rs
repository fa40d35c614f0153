//! The queue of invocations that wait for a slot, ordered by arrival.
//!
//! The arrival number is assigned once, so an invocation that waits a second time (because its sandbox failed) is
//! served before all that arrived later.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::Slot;
use crate::refusal::Refusal;

/// Position of an invocation in the order of arrival at its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ArrivalNumber(pub(super) u64);

/// The outcome of a wait.
#[derive(Debug)]
pub(crate) enum WaitOutcome {
    /// A slot was assigned.
    Served(Slot),
    /// The invocation is refused.
    Refused(Refusal),
}

/// Delivers the outcome to a waiting invocation.
pub(crate) type Waiter = oneshot::Sender<WaitOutcome>;

/// The waiting invocations of one function. Every operation costs O(log n).
#[derive(Debug, Default)]
pub(super) struct Queue {
    // A map rather than a deque: retries enter by their arrival, and clients that leave are anywhere in it.
    waiters: BTreeMap<ArrivalNumber, Waiter>,
}

impl Queue {
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.waiters.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn join(&mut self, arrival: ArrivalNumber, waiter: Waiter) {
        self.waiters.insert(arrival, waiter);
    }

    /// Removes an entry. Returns false if it had been served or refused before.
    pub(super) fn leave(&mut self, arrival: ArrivalNumber) -> bool {
        self.waiters.remove(&arrival).is_some()
    }

    /// Removes the entry that arrived first.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        self.waiters.pop_first().map(|(_, waiter)| waiter)
    }
}
