//! The machine's own floor: how late a thread wakes from a bare absolute sleep, with nothing to do.
//!
//! A generator cannot be more punctual than this, so it is measured before each run and printed next to the lag.

use std::{io, thread};

use crate::machine::clock::{Clock, NANOS_PER_SECOND, PacingClass, request_prompt_wakeups, thread_cpu_ns};

/// The delays with which bare sleeps ended.
#[derive(Debug)]
pub(crate) struct Floor {
    /// The scheduling that the kernel granted the sleeping thread.
    pub(crate) class: PacingClass,
    /// Lateness of each wake, in nanoseconds, ascending.
    pub(crate) lateness_ns: Vec<u64>,
    /// CPU time that one sleep and wake costs, in nanoseconds: what no invocation can be cheaper than.
    pub(crate) cpu_per_sleep_ns: u64,
}

impl Floor {
    /// Sleeps `count` times at a rate on a thread of its own.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn measure(rate_per_s: u64, count: u64, priority: Option<i32>) -> io::Result<Self> {
        let gap_ns = NANOS_PER_SECOND / rate_per_s.clamp(1, NANOS_PER_SECOND);
        let sleeper = thread::Builder::new().name("floor".to_owned()).spawn(move || {
            let class = request_prompt_wakeups(priority);
            let clock = Clock::starting_in(0);
            let cpu_before_ns = thread_cpu_ns();
            let lateness = |n: u64| {
                let due_ns = (n + 1) * gap_ns;
                clock.sleep_until(due_ns);
                clock.now_ns().saturating_sub(due_ns)
            };
            let mut lateness_ns: Vec<u64> = (0..count).map(lateness).collect();
            let cpu_per_sleep_ns = (thread_cpu_ns() - cpu_before_ns) / count.max(1);
            lateness_ns.sort_unstable();
            Self { class, lateness_ns, cpu_per_sleep_ns }
        })?;
        sleeper.join().map_err(|_| io::Error::other("the sleeping thread failed"))
    }

    /// Lateness at a quantile, in nanoseconds.
    pub(crate) fn at(&self, q: f64) -> u64 {
        stats::quantile(&self.lateness_ns, q).unwrap_or(0)
    }
}
