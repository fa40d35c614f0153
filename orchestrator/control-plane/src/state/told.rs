//! Which revisions a worker is taken to know: those it was told last. Others are told again, so that neither side keeps all
//! that ever was, for as long as a stream lasts.

use std::collections::BTreeSet;

use model::Revision;

/// Revisions of one generation. A worker keeps the last 2048 that it was told, twice as many as are remembered here.
const GENERATION: usize = 512;

/// Revisions in two generations: when the newer one is full it becomes the older one, and that is forgotten.
#[derive(Debug, Default)]
pub(super) struct Told {
    newer: BTreeSet<Revision>,
    older: BTreeSet<Revision>,
}

impl Told {
    /// Notes that a revision is known from now on; `true` when it must be told first.
    pub(super) fn learn(&mut self, revision: Revision) -> bool {
        if self.newer.contains(&revision) || self.older.contains(&revision) {
            return false;
        }
        if self.newer.len() == GENERATION {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_soon_but_memory_is_bounded() {
        let mut told = Told::default();
        for revision in 1..=GENERATION as u64 * 10 {
            assert!(told.learn(Revision(revision)), "the first time");
            assert!(!told.learn(Revision(revision)), "it knows by now");
            assert!(told.newer.len() + told.older.len() <= 2 * GENERATION);
        }
        assert!(told.learn(Revision(1)), "it may have forgotten");
    }
}
