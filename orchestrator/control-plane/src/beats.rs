//! Signs of life of workers, collected beside the owner: thousands of workers give four a second each, and none of them
//! is worth waking the owner for. It takes them up with whatever it handles next, at the latest when it looks at who is
//! silent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::Map;

/// The newest sign of life of each worker that gave one since the owner last looked.
#[derive(Default)]
pub(crate) struct Beats(Mutex<Map<String, u64>>);

impl Beats {
    /// A worker gave a sign of life at that time of the control plane's clock, in microseconds.
    pub(crate) fn note(&self, worker: String, at_us: u64) {
        self.lock().insert(worker, at_us);
    }

    /// Those since the last call.
    pub(crate) fn take(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Map<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
