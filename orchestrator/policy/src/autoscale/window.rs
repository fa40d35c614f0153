//! An average over a sliding window of buckets, as Knative's autoscaler takes it. A bucket is a second for `kpa`, a
//! tick for `dirigent`; here it is just a number.
//!
//! Reimplemented from the behaviour of Knative Serving 1.13, pkg/autoscaler/aggregation/bucketing.go: values written to
//! one bucket add up; the average is over the whole window, or over the part of it since the first write; buckets
//! without a write between two writes count as 0; a whole window without a write begins a new one.

/// A sliding window. Values are integers in millionths, so that years of additions and subtractions leave no rounding
/// error.
#[derive(Debug)]
pub(super) struct Window {
    /// Sums by bucket, at `bucket % len`; empty until the first write.
    buckets: Box<[u64]>,
    /// Number of buckets, at least 1.
    len: u64,
    /// The buckets of the first and the last write.
    written: Option<(u64, u64)>,
    /// Sum of all buckets.
    total: u64,
}

impl Window {
    /// An empty window of `len` buckets (0 is read as 1).
    pub(super) fn new(len: u64) -> Self {
        Self { buckets: Box::default(), len: len.max(1), written: None, total: 0 }
    }

    /// Adds `value` (millionths) to `bucket`, which is never before that of an earlier call.
    pub(super) fn record(&mut self, bucket: u64, value: u64) {
        let first = match self.written {
            Some((first, last)) if bucket.saturating_sub(last) < self.len => {
                for passed in last + 1..=bucket {
                    self.total -= std::mem::take(self.sum_of(passed));
                }
                first
            }
            _ => {
                self.buckets = vec![0; usize::try_from(self.len).expect("a window's buckets fit in memory")].into();
                self.total = 0;
                bucket
            }
        };
        self.written = Some((first, bucket));
        *self.sum_of(bucket) += value;
        self.total += value;
    }

    /// The average as of `bucket` (millionths, rounded down, which is Knative's precision).
    ///
    /// Without recent writes it is that of the written part of the window; after a whole window without, 0.
    pub(super) fn average(&self, bucket: u64) -> u64 {
        let Some((first, last)) = self.written else { return 0 };
        let silent = bucket.saturating_sub(last);
        if silent >= self.len {
            return 0;
        }
        let outdated: u64 = (last + 1..=last + silent).map(|passed| self.buckets[self.index(passed)]).sum();
        (self.total - outdated) / (last - first + 1).min(self.len - silent)
    }

    /// Returns true if nothing was written for more than the window's length.
    pub(super) fn is_empty(&self, bucket: u64) -> bool {
        self.written.is_none_or(|(_, last)| bucket.saturating_sub(last) > self.len)
    }

    /// The bucket of the last write.
    pub(super) fn last_write(&self) -> Option<u64> {
        self.written.map(|(_, last)| last)
    }

    /// Changes the length and keeps the buckets that fit.
    pub(super) fn resize(&mut self, len: u64) {
        if len.max(1) == self.len {
            return;
        }
        let mut resized = Self::new(len);
        if let Some((first, last)) = self.written {
            for bucket in first.max((last + 1).saturating_sub(self.len))..=last {
                resized.record(bucket, self.buckets[self.index(bucket)]);
            }
        }
        *self = resized;
    }

    fn sum_of(&mut self, bucket: u64) -> &mut u64 {
        let index = self.index(bucket);
        &mut self.buckets[index]
    }

    fn index(&self, bucket: u64) -> usize {
        usize::try_from(bucket % self.len).expect("a window's buckets fit in memory")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(len: u64, writes: &[(u64, u64)]) -> Window {
        let mut window = Window::new(len);
        writes.iter().for_each(|&(second, value)| window.record(second, value));
        window
    }

    #[test]
    fn writes_to_one_second_add_up() {
        assert_eq!(after(6, &[(3, 5), (3, 7)]).average(3), 12);
    }

    #[test]
    fn a_young_window_averages_its_buckets_with_gaps_as_zero() {
        assert_eq!(after(60, &[(10, 60), (12, 30)]).average(12), 30, "90 over seconds 10, 11 and 12");
    }

    #[test]
    fn a_full_window_slides() {
        let writes: Vec<_> = (0..10).map(|second| (second, second)).collect();
        assert_eq!(after(4, &writes).average(9), 7, "(6 + 7 + 8 + 9) / 4 rounded down");
    }

    #[test]
    fn silence_shortens_the_window_until_it_is_empty() {
        let window = after(4, &[(0, 8), (1, 8), (2, 4), (3, 4)]);
        assert_eq!(window.average(4), 5, "(8 + 4 + 4) / 3: second 0 is out, second 4 not written");
        assert_eq!(window.average(6), 4);
        assert_eq!(window.average(7), 0);
        assert!(!window.is_empty(7) && window.is_empty(8));
    }

    #[test]
    fn a_window_of_silence_begins_a_new_one() {
        assert_eq!(after(4, &[(0, 8), (4, 8)]).average(4), 8, "second 0 is a whole window ago");
        assert_eq!(after(4, &[(0, 8), (3, 8)]).average(3), 4);
    }

    #[test]
    fn resizing_keeps_the_buckets_that_fit() {
        let mut window = after(4, &[(0, 100), (1, 10), (2, 20), (3, 30)]);
        window.resize(2);
        assert_eq!(window.average(3), 25);
        window.resize(60);
        assert_eq!(window.average(3), 25, "still only two seconds are known");
        window.record(4, 10);
        assert_eq!(window.average(4), 20);
    }

    proptest! {
        /// The definition, over all writes ever made.
        #[test]
        fn the_average_is_that_of_the_definition(
            steps in prop::collection::vec((0u64..9, 0u64..1000), 1..100), len in 1u64..8, silent in 0u64..10,
        ) {
            let (mut window, mut all, mut second, mut first) = (Window::new(len), Vec::<(u64, u64)>::new(), 50, 50);
            for (ahead, value) in steps {
                if ahead >= len {
                    first = second + ahead;
                }
                second += ahead;
                if all.is_empty() {
                    first = second;
                }
                window.record(second, value);
                all.push((second, value));
                let now = second + silent;
                let oldest = (now + 1).saturating_sub(len).max(first);
                let sum: u64 = all.iter().filter(|(at, _)| *at >= oldest).map(|(_, value)| value).sum();
                let seconds = (second - first + 1).min(len.saturating_sub(silent));
                let expected = if silent >= len { 0 } else { sum / seconds };
                prop_assert_eq!(window.average(now), expected, "{:?} at {}", all, now);
                prop_assert_eq!(window.is_empty(now), silent > len);
            }
        }
    }
}
