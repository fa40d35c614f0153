//! The sandboxes with a free slot, kept in the way that a policy's order wants them.
//!
//! Every operation costs O(log sandboxes), whatever the order.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use rand_pcg::Pcg32;

use super::{BalancePolicy, Candidates, InUse, Rank};

/// See the module's text.
#[derive(Debug)]
pub(super) enum FreeSandboxes<K> {
    /// In the order of ranks, then of keys.
    Ranked { rank: fn(InUse) -> Rank, order: BTreeSet<(Rank, K)> },
    /// In the order of keys, with the one chosen last.
    RoundRobin { order: BTreeSet<K>, last: Option<K> },
    /// By place, in no order.
    Sampled(IndexedSandboxes<K>),
}

/// Sandboxes by place, so that one can be picked in O(1).
#[derive(Debug)]
pub(super) struct IndexedSandboxes<K> {
    pick: fn(&mut Candidates<'_>) -> usize,
    keys: Vec<K>,
    /// Slots in use, by place.
    in_use: Vec<u32>,
    indices: BTreeMap<K, usize>,
}

impl<K: Copy + Ord> FreeSandboxes<K> {
    /// Empty, for `order`.
    pub(super) fn new(order: BalancePolicy) -> Self {
        match order {
            BalancePolicy::Ranked(rank) => Self::Ranked { rank, order: BTreeSet::new() },
            BalancePolicy::RoundRobin => Self::RoundRobin { order: BTreeSet::new(), last: None },
            BalancePolicy::Sampled(pick) => {
                Self::Sampled(IndexedSandboxes { pick, keys: Vec::new(), in_use: Vec::new(), indices: BTreeMap::new() })
            }
        }
    }

    /// Brings a sandbox from what it was to what it is; `None` is "without a free slot".
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

    /// The sandbox that the order prefers among those not in `others` (a short list).
    #[inline]
    pub(super) fn choose(&mut self, others: &[K], random: &mut Pcg32) -> Option<K> {
        let is_allowed = |key: &K| !others.contains(key);
        match self {
            // The warm path: looking at the first costs less than beginning to go through all.
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
        // Where a pick is unwanted, those beside it are no less random.
        let (before, from) = self.keys.split_at(index);
        from.iter().chain(before).copied().find(|key| !others.contains(key))
    }
}

/// Brings one entry of an order from what it was to what it is.
#[inline]
pub(super) fn reorder<T: Ord>(order: &mut BTreeSet<T>, before: Option<T>, after: Option<T>) {
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
