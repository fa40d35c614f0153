//! How late the threads wake that read responses. A response that waits in a socket for its reader counts as the system's
//! latency, so that a late reader must be seen: each such thread asks to be woken at fixed gaps, by the same loop that
//! wakes it for responses, and notes by how much it was late.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use record::LagSummary;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// A thread's gap between two wakes. A hundred wakes a second cost less than 0.1 % of a core, and a minute has 6,000.
const GAP: Duration = Duration::from_millis(10);

/// The runtime's timers fire on whole milliseconds: so much of a delay is the timer's and not the thread's.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// Delays kept; a day of one thread. Later ones are not, so that memory is bounded.
const DELAYS_MAX: usize = 100 * 86_400;

/// The delays of all threads of one replay, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Reading(Mutex<Vec<u64>>);

impl Reading {
    /// Wakes at fixed gaps and notes each delay, for as long as the runtime lives.
    pub(crate) async fn watch(&self) {
        let mut wakes = interval_at(Instant::now() + GAP, GAP);
        // After a long delay one wake, and not as many as were missed: they would all be on time.
        wakes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = wakes.tick().await;
            self.note(due.elapsed().saturating_sub(TIMER_RESOLUTION));
        }
    }

    fn note(&self, late: Duration) {
        let mut delays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.len() < DELAYS_MAX {
            delays.push(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// What was noted; `None` when no thread has woken yet.
    pub(crate) fn summary(&self) -> Option<LagSummary> {
        let mut delays = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        delays.sort_unstable();
        let at = |q| stats::quantile(&delays, q);
        Some(LagSummary { p50_ns: at(0.5)?, p99_ns: at(0.99)?, max_ns: at(1.0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_held_up_is_late() {
        let reading = std::sync::Arc::new(Reading::default());
        assert_eq!(reading.summary(), None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let watched = std::sync::Arc::clone(&reading);
            tokio::spawn(async move { watched.watch().await });
            tokio::task::yield_now().await;
            // What reads responses does something else for 50 ms.
            let held_up = std::time::Instant::now();
            while held_up.elapsed() < Duration::from_millis(50) {}
            while reading.summary().is_none() {
                tokio::task::yield_now().await;
            }
        });
        // Woken when 50 ms had passed, it should have been after 10; a millisecond is the timer's, and as much is left.
        let found = reading.summary().unwrap();
        assert!(found.max_ns >= 38_000_000, "{found:?}");
    }
}
