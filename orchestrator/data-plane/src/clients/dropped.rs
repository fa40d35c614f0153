//! What was found in a client's requests that the HTTP library does not show, until it is asked for.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most requests of a connection that are remembered at once: more than the library can have read ahead.
const MAX_MARKS: usize = 65_536;

/// What a client's next requests have that the library does not show.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// A fragment in the target.
    pub(super) fragment: Marks,
    /// Both `Transfer-Encoding` and `Content-Length`.
    pub(super) length: Marks,
    /// Whether that was so for one that has come.
    any_length: AtomicBool,
}

impl Dropped {
    /// Whether the target of request `number`, which is the latest that has come, had a fragment.
    pub(super) fn had_fragment(&self, number: u64) -> bool {
        self.fragment.take(number)
    }

    /// Whether that request said in two ways where its body ends.
    pub(super) fn had_two_framings(&self, number: u64) -> bool {
        let had_two = self.length.take(number);
        if had_two {
            self.any_length.store(true, Ordering::Relaxed);
        }
        had_two
    }

    /// Whether any request did that has come.
    pub(super) fn had_any_two_framings(&self) -> bool {
        self.any_length.load(Ordering::Relaxed)
    }
}

/// Some of a client's next requests, by their numbers on the connection, from 1.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Read by each request, where `numbers` would be a lock.
    any: AtomicBool,
    /// As many as there are requests in what the library has read ahead.
    numbers: Mutex<VecDeque<u64>>,
}

impl Marks {
    /// Request `number`, which comes after all others, is one of them.
    pub(super) fn push(&self, number: u64) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() < MAX_MARKS {
            numbers.push_back(number);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether request `number`, which is the latest that has come, is one of them.
    pub(super) fn take(&self, number: u64) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        while numbers.front().is_some_and(|&front| front < number) {
            numbers.pop_front();
        }
        let found = numbers.front() == Some(&number);
        if found {
            numbers.pop_front();
        }
        self.any.store(!numbers.is_empty(), Ordering::Relaxed);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_taken_once() {
        let marks = Marks::default();
        marks.push(1);
        marks.push(3);
        assert!(!marks.take(2), "the first was not asked for");
        assert!(marks.take(3));
        assert!(!marks.take(3));
    }
}
