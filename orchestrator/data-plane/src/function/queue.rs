//! The line of invocations that wait for a slot: first come, first served, by ticket.
//!
//! A ticket is drawn at arrival and kept for life, so that an invocation that must wait a second time (its sandbox
//! failed) stands before everybody who came later.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::Slot;
use crate::refusal::Refusal;

/// The place of an invocation in the order of arrival at its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ArrivalNumber(pub(super) u64);

/// How a wait ends.
#[derive(Debug)]
pub(crate) enum WaitOutcome {
    /// With a slot.
    Served(Slot),
    /// With an answer that is not the function's.
    Refused(Refusal),
}

/// Where a waiting invocation is told how its wait ended.
pub(crate) type Waiter = oneshot::Sender<WaitOutcome>;

/// Waiting invocations of one function. Every operation costs O(log waiting).
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: BTreeMap<ArrivalNumber, Waiter>,
}

impl Queue {
    /// How many wait.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.waiters.len()).unwrap_or(u32::MAX)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Takes a place in the line.
    pub(super) fn join(&mut self, arrival: ArrivalNumber, waiter: Waiter) {
        self.waiters.insert(arrival, waiter);
    }

    /// Leaves the line; false when its turn had come before.
    pub(super) fn leave(&mut self, arrival: ArrivalNumber) -> bool {
        self.waiters.remove(&arrival).is_some()
    }

    /// The one who has waited longest.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        self.waiters.pop_first().map(|(_, waiter)| waiter)
    }
}
