//! The revisions that were sent most recently on a stream, remembered by both of its ends. Memory is bounded, because a
//! stream outlives many functions.

use std::collections::HashMap;

use model::Revision;

/// Revisions per generation at the sender. It refers to revisions of two generations at most and sends older ones
/// again.
const SENDER_GENERATION: usize = 512;
/// Revisions per generation at the receiver. It remembers at least so many, which is more than a sender refers to.
const RECEIVER_GENERATION: usize = 4 * SENDER_GENERATION;

/// A cache of revisions in two generations: a full newer generation replaces the older one, whose revisions are
/// forgotten.
#[derive(Debug)]
pub struct Revisions<T> {
    generation: usize,
    newer: HashMap<Revision, T>,
    older: HashMap<Revision, T>,
}

impl<T> Revisions<T> {
    fn new(generation: usize) -> Self {
        Self { generation, newer: HashMap::new(), older: HashMap::new() }
    }

    /// The cache of the control plane, with the revisions it sent to a worker.
    #[must_use]
    pub fn of_sender() -> Self {
        Self::new(SENDER_GENERATION)
    }

    /// The cache of a worker, with the revisions it received.
    #[must_use]
    pub fn of_receiver() -> Self {
        Self::new(RECEIVER_GENERATION)
    }

    /// Remembers a revision that is being sent, or was received, with `value`.
    pub fn insert(&mut self, revision: Revision, value: T) {
        if self.newer.len() == self.generation {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(revision, value);
    }

    /// Returns the value of a revision, or `None` if it is unknown or forgotten.
    #[must_use]
    pub fn get(&self, revision: Revision) -> Option<&T> {
        self.newer.get(&revision).or_else(|| self.older.get(&revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_remember_recent_revisions_in_bounded_memory() {
        let (mut sent, mut received) = (Revisions::of_sender(), Revisions::of_receiver());
        for revision in 1..=10 * RECEIVER_GENERATION as u64 {
            assert!(sent.get(Revision(revision)).is_none(), "a new revision must be sent");
            sent.insert(Revision(revision), ());
            received.insert(Revision(revision), ());
            assert!(sent.get(Revision(revision)).is_some(), "a recent revision need not be sent again");
            let oldest = revision.saturating_sub(RECEIVER_GENERATION as u64 - 1).max(1);
            assert!([oldest, revision].into_iter().all(|recent| received.get(Revision(recent)).is_some()));
            assert!(sent.newer.len() + sent.older.len() <= 2 * SENDER_GENERATION);
            assert!(received.newer.len() + received.older.len() <= 2 * RECEIVER_GENERATION);
        }
        assert!(sent.get(Revision(1)).is_none(), "an old revision is forgotten");
        assert!(sent.newer.keys().chain(sent.older.keys()).all(|revision| received.get(*revision).is_some()));
    }
}
