//! Properties of a client's requests that the HTTP library does not expose, kept until the request is served.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Marked requests of a connection, more than the library can have read ahead.
const MAX_MARKS: usize = 65_536;

/// Properties of a client's next requests that the library does not expose.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Requests with a fragment in the target.
    pub(super) fragment: Marks,
    /// Requests with both `Transfer-Encoding` and `Content-Length`.
    pub(super) length: Marks,
    /// A served request had both.
    any_length: AtomicBool,
}

impl Dropped {
    /// Returns true if the target of request `number`, the current one, had a fragment.
    pub(super) fn had_fragment(&self, number: u64) -> bool {
        self.fragment.take(number)
    }

    /// Returns true if that request had two framings of its body.
    pub(super) fn had_two_framings(&self, number: u64) -> bool {
        let had_two = self.length.take(number);
        if had_two {
            self.any_length.store(true, Ordering::Relaxed);
        }
        had_two
    }

    /// Returns true if any served request had two framings.
    pub(super) fn had_any_two_framings(&self) -> bool {
        self.any_length.load(Ordering::Relaxed)
    }
}

/// A set of a client's next requests, by their number on the connection, from 1.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Read by each request, where `numbers` would be a lock.
    any: AtomicBool,
    /// Bounded by the requests that the library has read ahead.
    numbers: Mutex<VecDeque<u64>>,
}

impl Marks {
    /// Adds request `number`, the latest one.
    pub(super) fn push(&self, number: u64) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if numbers.len() < MAX_MARKS {
            numbers.push_back(number);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Removes request `number`, the current one, and returns true if it was in the set.
    pub(super) fn take(&self, number: u64) -> bool {
        // Relaxed is enough: the task of an HTTP/1.1 connection reads its requests and also serves them.
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
