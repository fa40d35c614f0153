//! What sandboxes are made from, as told on the present stream: as much as the control plane can refer to, and not all that
//! was ever told, since functions come and go for as long as a stream lasts.

use std::{collections::HashMap, sync::Arc};

use api::wire;
use model::Revision;

use super::Spec;

/// At least so many that were told last are kept, and twice as many at most. A control plane refers to the last 1024 that
/// it told and tells others again; a specification is some hundred bytes.
const KEPT: usize = 2048;

/// Specifications by revision, in two generations.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    newer: HashMap<Revision, Spec>,
    older: HashMap<Revision, Spec>,
}

impl Revisions {
    /// Keeps one, and forgets the older generation when the newer one is full.
    pub(super) fn learn(&mut self, spec: wire::RevisionSpec) {
        if self.newer.len() == KEPT {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(Revision(spec.revision), Arc::new(spec));
    }

    pub(super) fn get(&self, revision: Revision) -> Option<&Spec> {
        self.newer.get(&revision).or_else(|| self.older.get(&revision))
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_is_kept_and_memory_is_bounded() {
        let mut revisions = Revisions::default();
        for revision in 0..10 * KEPT as u64 {
            revisions.learn(wire::RevisionSpec { revision, ..wire::RevisionSpec::default() });
            let oldest = revision.saturating_sub(KEPT as u64 - 1);
            assert!([oldest, revision].into_iter().all(|told| revisions.get(Revision(told)).is_some()));
            assert!(revisions.newer.len() + revisions.older.len() <= 2 * KEPT);
        }
        revisions.clear();
        assert!(revisions.get(Revision(1)).is_none());
    }
}
