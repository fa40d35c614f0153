//! The delays with which the threads wake that read responses. A response that waits in a socket counts as the system's
//! latency, so that a late reader must be seen: each such thread asks to be woken at fixed gaps, by the same loop that
//! wakes it for responses, and notes by how much it was late.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use record::LagSummary;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// A thread's gap between two wakes. A hundred wakes a second cost less than 0.1 % of a core, and a minute has 6,000.
const GAP: Duration = Duration::from_millis(10);

/// The runtime's timers fire on whole milliseconds: so much of a delay is the timer's and not the thread's.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// The greatest delay distinguished from a greater one, in nanoseconds: an hour.
const MAX_DELAY_NS: u64 = 3_600_000_000_000;

/// The delays of all threads of one replay, in nanoseconds: three digits of each, so that memory is bounded however long a
/// replay is and however many threads it has.
#[derive(Debug)]
pub(crate) struct Reading(Mutex<Histogram<u64>>);

impl Default for Reading {
    fn default() -> Self {
        let delays = Histogram::new_with_bounds(1, MAX_DELAY_NS, 3);
        Self(Mutex::new(delays.expect("3 digits within these bounds are possible")))
    }
}

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
        let late_ns = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(late_ns);
    }

    /// The delays so far; `None` if no thread has woken yet.
    pub(crate) fn summary(&self) -> Option<LagSummary> {
        let delays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if delays.is_empty() {
            return None;
        }
        let at = |q| delays.value_at_quantile(q);
        Some(LagSummary { p50_ns: at(0.5), p99_ns: at(0.99), max_ns: delays.max() })
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

    #[test]
    fn a_thread_that_is_late_after_hours_of_many_threads_is_seen() {
        let reading = Reading::default();
        (0..10_000_000).for_each(|_| reading.note(Duration::ZERO));
        (0..1_000_000).for_each(|_| reading.note(Duration::from_millis(7)));
        let found = reading.summary().unwrap();
        assert_eq!(found.p50_ns, 0);
        assert!((7_000_000..7_010_000).contains(&found.p99_ns), "{found:?}");
        assert!((7_000_000..7_010_000).contains(&found.max_ns), "{found:?}");
    }
}
