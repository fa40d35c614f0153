//! Dispatch of invocations that need a new connection, from the pacing thread to the I/O threads.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Positions in the schedule of what waits for one thread. Bounded by the schedule's length; pushing wakes that thread once per batch.
#[derive(Debug, Default)]
pub(crate) struct DispatchQueue {
    dispatched: Mutex<Vec<usize>>,
    pushed: Notify,
}

impl DispatchQueue {
    /// Hands over a batch, which is left empty.
    pub(crate) fn push(&self, batch: &mut Vec<usize>) {
        if batch.is_empty() {
            return;
        }
        self.dispatched.lock().unwrap_or_else(PoisonError::into_inner).append(batch);
        self.pushed.notify_one();
    }

    /// Waits for dispatched invocations and takes all of them.
    pub(crate) async fn take(&self) -> Vec<usize> {
        loop {
            let taken = std::mem::take(&mut *self.dispatched.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.pushed.notified().await;
        }
    }
}
