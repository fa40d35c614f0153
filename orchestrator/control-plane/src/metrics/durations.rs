//! A histogram of durations: plain atomics, so that recording one costs two additions and never allocates.
//!
//! Four buckets per doubling, so a quantile read from it is wrong by a fifth at most.

use std::sync::atomic::{AtomicU64, Ordering};

/// Doublings above the first four microseconds: up to 134 s, longer than any step of a creation may take.
const DOUBLINGS: usize = 25;
/// Buckets per doubling.
const PARTS: usize = 4;
/// Bounded buckets; one more takes the rest.
const BOUNDED: usize = PARTS * (DOUBLINGS + 1);

/// Counts of durations, by size.
#[derive(Debug)]
pub(crate) struct Durations {
    buckets: [AtomicU64; BOUNDED + 1],
    sum_us: AtomicU64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

impl Durations {
    pub(crate) fn record(&self, us: u64) {
        self.buckets[bucket_of(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Sum of all durations in microseconds.
    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    /// The buckets that hold anything: greatest duration in microseconds (`None` for the unbounded one), count.
    pub(crate) fn filled(&self) -> Vec<(Option<u64>, u64)> {
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(bucket, count)| (bound_us(bucket), count)).collect()
    }

    /// Sum in seconds, and the count of each doubling with its upper bound in seconds: the histogram that Prometheus
    /// reads.
    pub(crate) fn by_doubling(&self) -> (f64, Vec<(f64, u64)>) {
        #[allow(clippy::cast_precision_loss, reason = "a sum of microseconds is exact to 285 years")]
        let seconds = |us: u64| us as f64 / 1e6;
        let doubling = |(buckets, index): (&[AtomicU64], usize)| {
            let count = buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            (bound_us(index * PARTS + PARTS - 1).map_or(f64::MAX, seconds), count)
        };
        (seconds(self.sum_us()), self.buckets.chunks(PARTS).zip(0..).map(doubling).collect())
    }
}

/// The bucket whose bound is the first that is not below `us`.
fn bucket_of(us: u64) -> usize {
    let below = us.saturating_sub(1);
    if below < PARTS as u64 {
        return usize::try_from(below).unwrap_or(BOUNDED);
    }
    let doubling = below.ilog2() as usize;
    let part = usize::try_from(below >> (doubling - 2)).unwrap_or(0) % PARTS;
    ((doubling - 1) * PARTS + part).min(BOUNDED)
}

/// Greatest duration of a bucket, in microseconds; `None` for the one that has no bound.
fn bound_us(bucket: usize) -> Option<u64> {
    let (doubling, part) = (bucket / PARTS, (bucket % PARTS) as u64);
    match doubling {
        _ if bucket >= BOUNDED => None,
        0 => Some(part + 1),
        _ => Some((PARTS as u64 + part + 1) << (doubling - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_by_a_quarter_at_most_and_each_belongs_to_its_own_bucket() {
        for bucket in 0..BOUNDED {
            let bound = bound_us(bucket).unwrap();
            assert_eq!(bucket_of(bound), bucket, "{bound} µs");
            assert_eq!(bucket_of(bound + 1), bucket + 1, "{} µs", bound + 1);
            if let Some(next) = bound_us(bucket + 1).filter(|_| bound >= 4) {
                assert!(next > bound && next - bound <= bound / 4, "{bound} µs, then {next} µs");
            }
        }
        assert_eq!(bound_us(BOUNDED - 1), Some(1 << 27));
        assert_eq!((bucket_of(0), bucket_of(u64::MAX), bound_us(BOUNDED)), (0, BOUNDED, None));
    }

    #[test]
    fn doublings_hold_all_that_was_recorded() {
        let durations = Durations::default();
        for us in [0, 4, 5, 8, 9, 1_000_000, u64::MAX / 2] {
            durations.record(us);
        }
        let (_, doublings) = durations.by_doubling();
        let filled: Vec<_> = doublings.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(4e-6, 2), (8e-6, 2), (16e-6, 1), (1.048_576, 1), (f64::MAX, 1)]);
        assert_eq!(durations.filled().iter().map(|(_, count)| count).sum::<u64>(), 7);
    }
}
