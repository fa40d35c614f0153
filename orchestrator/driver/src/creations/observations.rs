//! The observations of the data planes: the number of requested and finished creations, and the latency of each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Duration;

/// Counts since the last [`Observations::take`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Demand reports for a function without a sandbox.
    pub(crate) requested: u64,
    /// Invocations of a function that still had its sandbox: no creation.
    pub(crate) still_warm: u64,
    /// Invocations of a function whose requested sandbox was still missing.
    pub(crate) still_waiting: u64,
    /// Time from demand to endpoint of each finished creation, in microseconds.
    pub(crate) latencies_us: Vec<u64>,
}

/// Shared by all data planes.
#[derive(Debug, Default)]
pub(crate) struct Observations(Mutex<Counts>);

impl Observations {
    /// Counts a requested creation.
    pub(crate) fn requested(&self) {
        self.lock().requested += 1;
    }

    /// Counts an invocation of a function that still had its sandbox.
    pub(crate) fn still_warm(&self) {
        self.lock().still_warm += 1;
    }

    /// Counts an invocation of a function whose requested sandbox was still missing.
    pub(crate) fn still_waiting(&self) {
        self.lock().still_waiting += 1;
    }

    /// Counts a finished creation.
    pub(crate) fn on_created(&self, after: Duration) {
        self.lock().latencies_us.push(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns the counts and resets them.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.lock())
    }

    /// Every change leaves the counts consistent, so a panic of another holder does not make them unusable.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
