//! Load shedding. If more arrives than the threads can process, all admitted work waits for its tasks to be scheduled,
//! every poll becomes dearer, and finally no response comes before its client has timed out. So the scheduling delay is
//! measured, and a share of new requests is refused that keeps it short.
//!
//! An invocation that waits for a sandbox or for its function does not count: only tasks that are ready to run do.

mod pie;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::Poll,
};

use futures::{future::poll_fn, task::AtomicWaker};
use service::Clock;

use self::pie::{Pie, UPDATE_US};
use crate::plane::Plane;

/// Arrivals per measurement of the delay.
const ARRIVALS: u32 = 16;
/// Age in microseconds at which past measurements are discarded.
const FORGOTTEN_US: u64 = 1_000_000;
/// A share of 1 in the units of [`Overload::carry`].
const WHOLE: f64 = 4_294_967_295.0;

/// State shared by arrivals and the watch.
#[derive(Default)]
pub(crate) struct Overload {
    arrivals: AtomicU32,
    /// Share of arrivals that is refused, out of [`WHOLE`].
    share: AtomicU32,
    /// Sum of the shares of arrivals. An arrival is refused when the sum overflows, which spreads refusals evenly.
    carry: AtomicU32,
    /// Time of the pending request for a measurement, microseconds; 0: none.
    requested_us: AtomicU64,
    /// Newest scheduling delay, microseconds.
    delay_us: AtomicU64,
    watch: AtomicWaker,
}

impl Overload {
    /// Returns true if a request that arrives at `now_us` is admitted.
    pub(crate) fn admits(&self, now_us: u64) -> bool {
        // Arrivals trigger measurements instead of a timer, so that an idle data plane does not wake.
        // Only every sixteenth, since each measurement wakes a task.
        if self.arrivals.fetch_add(1, Ordering::Relaxed).is_multiple_of(ARRIVALS)
            && self.requested_us.load(Ordering::Relaxed) == 0
        {
            self.requested_us.store(now_us.max(1), Ordering::Relaxed);
            self.watch.wake();
        }
        let share = self.share.load(Ordering::Relaxed);
        // An even spread instead of random draws: no generator, and no runs of refusals by chance.
        share == 0 || self.carry.fetch_add(share, Ordering::Relaxed).checked_add(share).is_some()
    }

    /// Share of requests that is refused now, 0 to 1.
    pub(crate) fn refused_share(&self) -> f64 {
        f64::from(self.share.load(Ordering::Relaxed)) / WHOLE
    }

    /// Newest scheduling delay of a ready task, microseconds.
    pub(crate) fn delay_us(&self) -> u64 {
        self.delay_us.load(Ordering::Relaxed)
    }

    /// Measures the scheduling delay when arrivals request it. Never returns.
    pub(crate) async fn watch(&self, clock: Clock) {
        let mut control = Control::default();
        loop {
            let requested_us = poll_fn(|cx| {
                self.watch.register(cx.waker());
                match self.requested_us.swap(0, Ordering::Relaxed) {
                    0 => Poll::Pending,
                    requested_us => Poll::Ready(requested_us),
                }
            })
            .await;
            let now_us = clock.now_us();
            let delay_us = now_us.saturating_sub(requested_us);
            self.delay_us.store(delay_us, Ordering::Relaxed);
            if let Some(share) = control.measured(delay_us, now_us) {
                self.share.store(parts(share), Ordering::Relaxed);
            }
        }
    }
}

/// Measures the scheduling delay of a data plane. Never returns.
pub(crate) async fn run(plane: Arc<Plane>) {
    plane.overload.watch(plane.clock).await;
}

/// Converts a share of 0 to 1 to one out of [`WHOLE`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the whole fits")]
fn parts(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * WHOLE) as u32
}

/// Aggregates measurements for the controller.
#[derive(Default)]
struct Control {
    pie: Pie,
    updated_us: u64,
    /// Minimum delay since then: a standing queue shows in the minimum, a short burst does not.
    min_us: Option<u64>,
}

impl Control {
    /// Adds a measured delay. Returns the share to refuse when an update is due.
    fn measured(&mut self, delay_us: u64, now_us: u64) -> Option<f64> {
        let passed_us = now_us.saturating_sub(self.updated_us);
        if passed_us > FORGOTTEN_US {
            *self = Self { updated_us: now_us, ..Self::default() };
            return Some(0.0);
        }
        let min_us = self.min_us.map_or(delay_us, |min_us| min_us.min(delay_us));
        self.min_us = Some(min_us);
        if passed_us < UPDATE_US {
            return None;
        }
        (self.updated_us, self.min_us) = (now_us, None);
        Some(self.pie.update(min_us, passed_us))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{task::yield_now, time::advance};

    use super::*;

    #[test]
    fn refusals_are_as_many_as_the_share_says_and_spread_evenly() {
        let overload = Overload::default();
        assert!((0..100).all(|_| overload.admits(1)), "nothing is refused at first");
        overload.share.store(parts(0.25), Ordering::Relaxed);
        let admitted: Vec<bool> = (0..400).map(|_| overload.admits(1)).collect();
        let refused = admitted.chunks(4).map(|four| four.iter().filter(|admitted| !**admitted).count());
        assert!(refused.clone().all(|refused| refused <= 2) && (99..=101).contains(&refused.sum::<usize>()));
    }

    #[test]
    fn the_minimum_delay_counts_and_a_pause_resets_the_share() {
        let mut control = Control::default();
        let mut now_us = 10_000_000;
        let mut share = 0.0;
        for round in 0..400 {
            now_us += 5_000;
            let delay_us = if round % 3 == 0 { 150_000 } else { 400_000 };
            share = control.measured(delay_us, now_us).unwrap_or(share);
        }
        assert!(share > 0.1, "{share}");
        for _ in 0..2000 {
            now_us += 5_000;
            share = control.measured(1_000, now_us).unwrap_or(share);
        }
        assert_eq!(share, 0.0);
        for _ in 0..400 {
            now_us += 5_000;
            share = control.measured(150_000, now_us).unwrap_or(share);
        }
        assert!(share > 0.1, "{share}");
        assert_eq!(control.measured(1, now_us + 2 * FORGOTTEN_US), Some(0.0));
    }

    #[tokio::test(start_paused = true)]
    async fn arrivals_wake_the_watch_which_measures_the_delay() {
        let (overload, clock) = (Overload::default(), Clock::start());
        let arrive = async {
            for _ in 0..100 {
                for _ in 0..ARRIVALS {
                    overload.admits(clock.now_us());
                }
                // The watch is polled 150 ms late.
                advance(Duration::from_millis(150)).await;
                yield_now().await;
            }
        };
        tokio::select! {
            () = overload.watch(clock) => unreachable!("it runs for ever"),
            () = arrive => {}
        }
        assert!(overload.refused_share() > 0.1, "{}", overload.refused_share());
    }
}
