//! What the data planes see: how many creations were asked for and came, and how long each took.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Duration;

/// Counts since the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Demands reported for a function without a sandbox.
    pub(crate) asked: u64,
    /// Turns of a function that still had its sandbox: not a creation.
    pub(crate) still_warm: u64,
    /// Turns of a function whose sandbox had not come since its last turn.
    pub(crate) still_waiting: u64,
    /// From demand to endpoint, in microseconds, of the creations that came.
    pub(crate) latencies_us: Vec<u64>,
}

/// Shared by all data planes.
#[derive(Debug, Default)]
pub(crate) struct Observed(Mutex<Counts>);

impl Observed {
    /// A creation was asked for.
    pub(crate) fn asked(&self) {
        self.lock().asked += 1;
    }

    /// A function was not cold when its turn came.
    pub(crate) fn still_warm(&self) {
        self.lock().still_warm += 1;
    }

    /// A function still waited for its sandbox when its turn came.
    pub(crate) fn still_waiting(&self) {
        self.lock().still_waiting += 1;
    }

    /// A sandbox came.
    pub(crate) fn came(&self, after: Duration) {
        self.lock().latencies_us.push(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }

    /// What was counted since the last call.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.lock())
    }

    /// Counts stay whole, whatever happened to whoever added to them.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
