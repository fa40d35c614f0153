//! A histogram of durations for the warm path: observing one costs two atomic additions and takes no lock.
//!
//! There are four buckets per doubling, so that a quantile read from them is wrong by a fifth at most. Prometheus gets
//! one bucket per doubling: its quantiles interpolate, and every bucket is a series.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

/// Doublings above the first four microseconds: up to 134 s, longer than any step of a creation may take.
const DOUBLINGS: usize = 25;
/// Buckets per doubling.
const PARTS: usize = 4;
/// Bounded buckets; one more takes the rest.
const BOUNDED: usize = PARTS * (DOUBLINGS + 1);

/// Counts of durations, in microseconds. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    buckets: [AtomicU64; BOUNDED + 1],
    sum_us: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts a duration of `us` microseconds.
    pub fn observe_us(&self, us: u64) {
        self.0.buckets[bucket_of(us)].fetch_add(1, Ordering::Relaxed);
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Returns the sum of all durations in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.0.sum_us.load(Ordering::Relaxed)
    }

    /// Returns the buckets that are not empty: greatest duration in microseconds (`None` for the unbounded one), count.
    #[must_use]
    pub fn filled(&self) -> Vec<(Option<u64>, u64)> {
        let counts = self.0.buckets.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(bucket, count)| (bound_us(bucket), count)).collect()
    }

    /// Returns the count of each doubling with its upper bound in seconds.
    fn by_doubling(&self) -> Vec<(f64, u64)> {
        let doubling = |(buckets, index): (&[AtomicU64], usize)| {
            let count = buckets.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            (bound_us(index * PARTS + PARTS - 1).map_or(f64::INFINITY, seconds), count)
        };
        self.0.buckets.chunks(PARTS).zip(0..).map(doubling).collect()
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets = self.by_doubling();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(self.sum_us()), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[allow(clippy::cast_precision_loss, reason = "a sum of microseconds is exact to 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Returns the bucket whose bound is the first that is not below `us`.
fn bucket_of(us: u64) -> usize {
    // Minus one, because upper bounds are inclusive.
    let below = us.saturating_sub(1);
    if below < PARTS as u64 {
        return usize::try_from(below).unwrap_or(BOUNDED);
    }
    let doubling = below.ilog2() as usize;
    let part = usize::try_from(below >> (doubling - 2)).unwrap_or(0) % PARTS;
    ((doubling - 1) * PARTS + part).min(BOUNDED)
}

/// Returns the greatest duration of a bucket, in microseconds; `None` for the unbounded one.
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
    use prometheus_client::{encoding::text::encode, registry::Registry};

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
    fn doublings_hold_all_durations() {
        let histogram = Histogram::default();
        for us in [0, 4, 5, 8, 9, 1_000_000, u64::MAX / 2] {
            histogram.observe_us(us);
        }
        let doublings = histogram.by_doubling();
        let filled: Vec<_> = doublings.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(4e-6, 2), (8e-6, 2), (16e-6, 1), (1.048_576, 1), (f64::INFINITY, 1)]);
        assert_eq!(histogram.filled().iter().map(|(_, count)| count).sum::<u64>(), 7);
    }

    #[test]
    fn prometheus_gets_cumulative_counts_in_seconds() {
        let (histogram, mut registry) = (Histogram::default(), Registry::default());
        registry.register("wait_seconds", "Wait", histogram.clone());
        [64, 65, 500_000].into_iter().for_each(|us| histogram.observe_us(us));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE wait_seconds histogram\n",
            "wait_seconds_sum 0.500129\n",
            "wait_seconds_count 3\n",
            "wait_seconds_bucket{le=\"0.000064\"} 1\n",
            "wait_seconds_bucket{le=\"0.000128\"} 2\n",
            "wait_seconds_bucket{le=\"+Inf\"} 3\n",
        ] {
            assert!(text.contains(line), "expected {line:?} in\n{text}");
        }
    }
}
