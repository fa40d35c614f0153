//! Burning a given amount of a thread's CPU time, measured by the thread's own clock.
//!
//! Reading that clock is a system call, so the loop runs in chunks of predicted length. The prediction corrects itself
//! with every chunk, since processors change their speed.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use nix::{
    errno::Errno,
    time::{ClockId, clock_gettime},
};

/// Longest chunk between two readings: short enough to follow the processor's speed and to stop on request, and
/// two hundred times the cost of a reading.
const CHUNK_NS: u64 = 100_000;
/// Rounds per nanosecond assumed before anything was measured, slow on purpose so that the first chunk is short.
const INITIAL_ESTIMATE: f64 = 0.05;
/// A chunk shorter than this says nothing about the speed: it is mostly the reading itself.
const MEASURABLE_NS: u64 = 5_000;
/// The remainder that is not worth another round: about one clock reading.
const RESOLUTION_NS: u64 = 500;

/// A loop that knows how fast it runs. Shared by all threads of a process.
#[derive(Debug)]
pub(crate) struct Spinner {
    /// Rounds per nanosecond, as the bits of an `f64`.
    speed: AtomicU64,
}

impl Spinner {
    pub(crate) fn new() -> Self {
        Self { speed: AtomicU64::new(INITIAL_ESTIMATE.to_bits()) }
    }

    /// Spins until the calling thread has used `target` of CPU time since `start_ns` (see [`thread_cpu_ns`]), or
    /// until `stop` is set.
    pub(crate) fn spin_until(&self, start_ns: u64, target: Duration, stop: &AtomicBool) -> Result<(), Errno> {
        let end_ns = start_ns.saturating_add(u64::try_from(target.as_nanos()).unwrap_or(u64::MAX));
        let mut now_ns = thread_cpu_ns()?;
        let mut speed = f64::from_bits(self.speed.load(Ordering::Relaxed));
        while now_ns + RESOLUTION_NS < end_ns && !stop.load(Ordering::Relaxed) {
            let chunk_ns = (end_ns - now_ns).min(CHUNK_NS);
            burn(rounds(chunk_ns, speed));
            let after_ns = thread_cpu_ns()?;
            let took_ns = after_ns.saturating_sub(now_ns).max(1);
            // A short chunk counts only if it was planned to be much longer: then the estimate is far too low.
            if took_ns >= MEASURABLE_NS || took_ns < chunk_ns / 2 {
                speed = corrected(speed, chunk_ns, took_ns);
            }
            now_ns = after_ns;
        }
        // Threads may overwrite each other's estimate: each is as good as the other.
        self.speed.store(speed.to_bits(), Ordering::Relaxed);
        Ok(())
    }
}

/// CPU time used by the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> Result<u64, Errno> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Ok(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0))
}

/// The speed that would have made the chunk take as long as planned; at most doubled or halved at once, so that one
/// odd reading does not spoil it.
fn corrected(speed: f64, planned_ns: u64, took_ns: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a chunk is far below 2^52 nanoseconds")]
    let ratio = planned_ns as f64 / took_ns as f64;
    speed * ratio.clamp(0.5, 2.0)
}

fn rounds(chunk_ns: u64, speed: f64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a chunk is short and a speed positive"
    )]
    let rounds = (chunk_ns as f64 * speed) as u64;
    rounds.max(1)
}

/// A chain of dependent multiplications, which neither the compiler nor the processor can shorten.
fn burn(rounds: u64) {
    let mut state = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..rounds {
        state = (state ^ (state >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    }
    black_box(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent_us(spinner: &Spinner, target: Duration) -> u64 {
        let start_ns = thread_cpu_ns().unwrap();
        spinner.spin_until(start_ns, target, &AtomicBool::new(false)).unwrap();
        (thread_cpu_ns().unwrap() - start_ns) / 1000
    }

    /// The median of several, because a virtual machine's stolen time counts as the thread's.
    fn usual_us(mut once: impl FnMut() -> u64) -> u64 {
        let mut spent: Vec<u64> = (0..7).map(|_| once()).collect();
        spent.sort_unstable();
        spent[3]
    }

    #[test]
    fn the_requested_cpu_time_is_spent_to_within_a_twentieth_also_for_a_millisecond() {
        let spinner = Spinner::new();
        for target_us in [1000, 3000, 20_000] {
            let spent_us = usual_us(|| spent_us(&spinner, Duration::from_micros(target_us)));
            let bounds = target_us - 2..=target_us + target_us / 20;
            assert!(bounds.contains(&spent_us), "{target_us} µs were asked for, {spent_us} µs were spent");
        }
    }

    #[test]
    fn the_very_first_call_is_not_far_off() {
        let spent_us = usual_us(|| spent_us(&Spinner::new(), Duration::from_millis(1)));
        assert!((998..=1100).contains(&spent_us), "1000 µs were asked for, {spent_us} µs were spent");
    }

    #[test]
    fn it_stops_on_request() {
        let start_ns = thread_cpu_ns().unwrap();
        Spinner::new().spin_until(start_ns, Duration::from_secs(3600), &AtomicBool::new(true)).unwrap();
        assert!(thread_cpu_ns().unwrap() - start_ns < 1_000_000_000);
    }

    #[test]
    fn a_correction_is_bounded() {
        assert_eq!(corrected(1.0, 100, 200), 0.5);
        assert_eq!(corrected(1.0, 100, 1), 2.0);
        assert_eq!(corrected(1.0, 100, 100_000), 0.5);
    }
}
