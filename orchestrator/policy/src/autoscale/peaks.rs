//! The greatest value seen within a sliding window, in O(1) amortised and with only the values that can still matter.

use std::collections::VecDeque;

/// Values by key (a time, in units of the owner's choice), as a queue of falling maxima: an older, smaller value is
/// subsumed by a newer, greater one.
#[derive(Debug, Default)]
pub(super) struct Peaks {
    /// Keys ascend, values descend, both strictly.
    entries: VecDeque<(u64, u32)>,
}

impl Peaks {
    /// Records `value`. Keys never decrease; of several values at one key the greatest counts.
    pub(super) fn record(&mut self, key: u64, value: u32) {
        while self.entries.back().is_some_and(|&(_, last)| last <= value) {
            self.entries.pop_back();
        }
        if self.entries.back().is_none_or(|&(last, _)| last < key) {
            self.entries.push_back((key, value));
        }
    }

    /// Forgets what was recorded at keys below `key`; frees the memory when nothing is left.
    pub(super) fn forget_before(&mut self, key: u64) {
        while self.entries.front().is_some_and(|&(first, _)| first < key) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.clear();
        }
    }

    /// Forgets everything and frees the memory.
    pub(super) fn clear(&mut self) {
        // A cleared deque would keep its memory.
        self.entries = VecDeque::new();
    }

    /// The greatest remembered value; 0 without any.
    pub(super) fn max(&self) -> u32 {
        self.entries.front().map_or(0, |&(_, value)| value)
    }

    /// The key of the greatest value's last occurrence: when it is forgotten, the maximum falls.
    pub(super) fn max_key(&self) -> Option<u64> {
        self.entries.front().map(|&(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_maximum_is_that_of_everything_within_the_window(
            steps in prop::collection::vec((0u64..4, 0u32..20), 1..200), window in 1u64..12,
        ) {
            let (mut peaks, mut all, mut key) = (Peaks::default(), Vec::new(), 0);
            for (ahead, value) in steps {
                key += ahead;
                peaks.record(key, value);
                all.push((key, value));
                let from = key.saturating_sub(window - 1);
                peaks.forget_before(from);
                let expected = all.iter().filter(|(at, _)| *at >= from).map(|(_, value)| *value).max().unwrap();
                prop_assert_eq!(peaks.max(), expected, "at {} of {:?}", key, all);
                prop_assert!(peaks.entries.len() <= usize::try_from(window).unwrap());
            }
        }
    }

    #[test]
    fn without_values_nothing_is_allocated() {
        let mut peaks = Peaks::default();
        peaks.record(1, 5);
        peaks.forget_before(2);
        assert_eq!((peaks.max(), peaks.max_key(), peaks.entries.capacity()), (0, None, 0));
    }
}
