//! The sandboxes with a free slot, indexed as the balancing policy needs them.
//!
//! Every operation costs O(log sandboxes) at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use rand_pcg::Pcg32;

use super::{BalancePolicy, Candidates, InUse, Rank};

/// Sandboxes with a free slot.
#[derive(Debug)]
pub(super) enum FreeSandboxes<K> {
    /// Ordered by rank, then by key.
    Ranked { rank: fn(InUse) -> Rank, order: BTreeSet<(Rank, K)> },
    /// Ordered by key, with the last choice.
    RoundRobin { order: BTreeSet<K>, last: Option<K> },
    /// By index, in no order.
    Sampled(IndexedSandboxes<K>),
}

/// Sandboxes by index, so that one can be picked in O(1).
#[derive(Debug)]
pub(super) struct IndexedSandboxes<K> {
    pick: fn(&mut Candidates<'_>) -> usize,
    keys: Vec<K>,
    /// Slots in use, by index.
    in_use: Vec<u32>,
    indices: BTreeMap<K, usize>,
}

impl<K: Copy + Ord> FreeSandboxes<K> {
    /// An empty set for a policy.
    pub(super) fn new(order: BalancePolicy) -> Self {
        match order {
            BalancePolicy::Ranked(rank) => Self::Ranked { rank, order: BTreeSet::new() },
            BalancePolicy::RoundRobin => Self::RoundRobin { order: BTreeSet::new(), last: None },
            BalancePolicy::Sampled(pick) => {
                Self::Sampled(IndexedSandboxes { pick, keys: Vec::new(), in_use: Vec::new(), indices: BTreeMap::new() })
            }
        }
    }

    /// Updates a sandbox; `None` means without a free slot.
    #[inline]
    pub(super) fn update(&mut self, key: K, before: Option<InUse>, after: Option<InUse>) {
        match self {
            Self::Ranked { rank, order } => {
                let entry = |used: InUse| (rank(used), key);
                reorder(order, before.map(entry), after.map(entry));
            }
            Self::RoundRobin { order, .. } => reorder(order, before.map(|_| key), after.map(|_| key)),
            Self::Sampled(indexed) => indexed.update(key, before, after),
        }
    }

    /// The preferred sandbox that is not in `others` (a short list).
    #[inline]
    pub(super) fn choose(&mut self, others: &[K], random: &mut Pcg32) -> Option<K> {
        let is_allowed = |key: &K| !others.contains(key);
        match self {
            // The warm path: taking the first costs less than an iterator over all.
            Self::Ranked { order, .. } if others.is_empty() => order.first().map(|(_, key)| *key),
            Self::Ranked { order, .. } => order.iter().map(|(_, key)| *key).find(is_allowed),
            Self::RoundRobin { order, last } => {
                let after = last.map_or(Unbounded, Excluded);
                let chosen = order.range((after, Unbounded)).chain(order.iter()).copied().find(is_allowed)?;
                *last = Some(chosen);
                Some(chosen)
            }
            Self::Sampled(indexed) => indexed.choose(others, random),
        }
    }
}

impl<K: Copy + Ord> IndexedSandboxes<K> {
    fn update(&mut self, key: K, before: Option<InUse>, after: Option<InUse>) {
        match (before, after) {
            (None, None) => {}
            (None, Some(used)) => {
                self.indices.insert(key, self.keys.len());
                self.keys.push(key);
                self.in_use.push(used.in_use);
            }
            (Some(_), Some(used)) => {
                if let Some(&index) = self.indices.get(&key) {
                    self.in_use[index] = used.in_use;
                }
            }
            (Some(_), None) => {
                let Some(index) = self.indices.remove(&key) else { return };
                self.keys.swap_remove(index);
                self.in_use.swap_remove(index);
                if let Some(moved) = self.keys.get(index) {
                    self.indices.insert(*moved, index);
                }
            }
        }
    }

    fn choose(&self, others: &[K], random: &mut Pcg32) -> Option<K> {
        if self.keys.is_empty() {
            return None;
        }
        let index = (self.pick)(&mut Candidates { in_use: &self.in_use, random });
        // If the pick is excluded, its neighbours are no less random.
        let (before, from) = self.keys.split_at(index);
        from.iter().chain(before).copied().find(|key| !others.contains(key))
    }
}

/// Replaces one entry of an order.
#[inline]
pub(super) fn reorder<T: Ord>(order: &mut BTreeSet<T>, before: Option<T>, after: Option<T>) {
    // Often equal: a sandbox that runs two invocations is idle neither before nor after a third.
    if before == after {
        return;
    }
    if let Some(before) = before {
        order.remove(&before);
    }
    if let Some(after) = after {
        order.insert(after);
    }
}
