//! The revisions told last on a stream, as both of its ends remember them: not all that ever were, since functions come
//! and go for as long as a stream lasts.

use std::collections::HashMap;

use model::Revision;

/// Revisions of one generation at the control plane, which refers to two generations at most and tells others again.
const TOLD: usize = 512;
/// Revisions of one generation at the worker: it keeps at least so many, which is more than a control plane refers to.
const HEARD: usize = 4 * TOLD;

/// What is known of revisions, in two generations: when the newer one is full it becomes the older one, and that is
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

    /// As the control plane remembers what it told a worker.
    #[must_use]
    pub fn told() -> Self {
        Self::new(TOLD)
    }

    /// As a worker remembers what it was told.
    #[must_use]
    pub fn heard() -> Self {
        Self::new(HEARD)
    }

    /// Takes note of a revision that is told now.
    pub fn insert(&mut self, revision: Revision, what: T) {
        if self.newer.len() == self.generation {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(revision, what);
    }

    /// What is known of a revision, unless it was told too long ago.
    #[must_use]
    pub fn get(&self, revision: Revision) -> Option<&T> {
        self.newer.get(&revision).or_else(|| self.older.get(&revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_is_kept_by_both_ends_and_memory_is_bounded() {
        let (mut told, mut heard) = (Revisions::told(), Revisions::heard());
        for revision in 1..=10 * HEARD as u64 {
            assert!(told.get(Revision(revision)).is_none(), "it must be told the first time");
            told.insert(Revision(revision), ());
            heard.insert(Revision(revision), ());
            assert!(told.get(Revision(revision)).is_some(), "it need not be told again");
            let oldest = revision.saturating_sub(HEARD as u64 - 1).max(1);
            assert!([oldest, revision].into_iter().all(|told| heard.get(Revision(told)).is_some()));
            assert!(told.newer.len() + told.older.len() <= 2 * TOLD);
            assert!(heard.newer.len() + heard.older.len() <= 2 * HEARD);
        }
        assert!(told.get(Revision(1)).is_none(), "it may have been forgotten");
        assert!(told.newer.keys().chain(told.older.keys()).all(|told| heard.get(*told).is_some()));
    }
}
