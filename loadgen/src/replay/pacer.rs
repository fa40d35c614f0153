//! The pacing thread: sleeps until an invocation is due and sends it.
//!
//! It writes to the socket itself when a pooled connection is idle, so that nothing is between the kernel's timer and
//! the kernel's socket but this thread. Invocations that need a new connection are dispatched to the I/O threads, in batches.

use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::{
    http::http1::Http1,
    machine::clock::request_prompt_wakeups,
    replay::{Replay, dispatch::DispatchQueue, stop::Stop},
};

/// The pacing thread's own account.
#[derive(Debug)]
pub(crate) struct PacingReport {
    /// Scheduling class and timer slack it had, and how late it woke.
    pub(crate) pacing: String,
}

/// Sends a schedule's invocations when they are due.
pub(crate) struct Pacer {
    /// The replay to pace.
    pub(crate) replay: Arc<Replay>,
    /// Idle connections, when the protocol allows writing to them from here.
    pub(crate) direct: Option<Arc<Http1>>,
    /// Queues of the I/O threads; used round-robin.
    pub(crate) io_threads: Vec<Arc<DispatchQueue>>,
    /// Checked before each invocation.
    pub(crate) stop: Arc<Stop>,
    /// Real-time priority to ask for.
    pub(crate) priority: Option<i32>,
}

/// The longest sleep, so that a request to stop is noticed.
const MAX_SLEEP_NS: u64 = 50_000_000;

/// Invocations gathered before they are dispatched although more are due: a burst's first connections should not wait
/// for its last invocation.
const BATCH: usize = 32;

impl Pacer {
    /// Paces to the end of the schedule, or until a request to stop.
    pub(crate) fn run(self) -> PacingReport {
        let class = request_prompt_wakeups(self.priority);
        let clock = self.replay.clock;
        let mut woke_late = lateness_histogram();
        let mut request = Vec::with_capacity(REQUEST_BYTES);
        let mut batch = Vec::with_capacity(BATCH);
        let mut next_thread = 0;
        clock.sleep_until(0);
        let mut index = 0;
        while let Some(due) = self.replay.due(index) {
            if self.stop.is_requested() {
                break;
            }
            let now_ns = clock.now_ns();
            if due.due_ns > now_ns {
                self.hand_over(&mut batch, &mut next_thread);
                clock.sleep_until(due.due_ns.min(now_ns.saturating_add(MAX_SLEEP_NS)));
                if let Some(late_ns) = clock.now_ns().checked_sub(due.due_ns) {
                    woke_late.saturating_record(late_ns);
                }
                continue;
            }
            let sent = self.direct.as_ref().is_some_and(|http1| http1.send_idle(index, &mut request));
            if !sent {
                batch.push(index);
                if batch.len() >= BATCH {
                    self.hand_over(&mut batch, &mut next_thread);
                }
            }
            index += 1;
        }
        self.hand_over(&mut batch, &mut next_thread);
        let late_us = woke_late.value_at_quantile(0.99) / 1000;
        PacingReport { pacing: format!("{class}; woke {late_us} µs late at p99") }
    }

    fn hand_over(&self, batch: &mut Vec<usize>, next_thread: &mut usize) {
        if let Some(queue) = self.io_threads.get(*next_thread % self.io_threads.len().max(1)) {
            queue.push(batch);
        }
        *next_thread = next_thread.wrapping_add(1);
    }
}

/// Room for a request with the longest function name.
const REQUEST_BYTES: usize = 512;

fn lateness_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENESS_NS, 2).expect("2 digits within these bounds are possible")
}

/// A minute; later wakes are counted as this.
const MAX_LATENESS_NS: u64 = 60_000_000_000;
