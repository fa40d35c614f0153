//! The sandboxes with a free slot, kept in the way that a policy's order wants them.
//!
//! Every operation costs O(log sandboxes), whatever the order.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use rand_pcg::Pcg32;

use super::{Lot, Order, Rank, Use};

/// See the module's text.
#[derive(Debug)]
pub(super) enum Free<K> {
    /// In the order of ranks, then of keys.
    Ranked { rank: fn(Use) -> Rank, order: BTreeSet<(Rank, K)> },
    /// In the order of keys, with the one chosen last.
    InTurn { order: BTreeSet<K>, last: Option<K> },
    /// By place, in no order.
    Picked(Places<K>),
}

/// Sandboxes by place, so that one can be picked in O(1).
#[derive(Debug)]
pub(super) struct Places<K> {
    pick: fn(&mut Lot<'_>) -> usize,
    keys: Vec<K>,
    /// Slots in use, by place.
    in_use: Vec<u32>,
    places: BTreeMap<K, usize>,
}

impl<K: Copy + Ord> Free<K> {
    /// Empty, for `order`.
    pub(super) fn new(order: Order) -> Self {
        match order {
            Order::Ranked(rank) => Self::Ranked { rank, order: BTreeSet::new() },
            Order::InTurn => Self::InTurn { order: BTreeSet::new(), last: None },
            Order::Picked(pick) => {
                Self::Picked(Places { pick, keys: Vec::new(), in_use: Vec::new(), places: BTreeMap::new() })
            }
        }
    }

    /// Brings a sandbox from what it was to what it is; `None` is "without a free slot".
    #[inline]
    pub(super) fn update(&mut self, key: K, before: Option<Use>, after: Option<Use>) {
        match self {
            Self::Ranked { rank, order } => {
                let place = |used: Use| (rank(used), key);
                reorder(order, before.map(place), after.map(place));
            }
            Self::InTurn { order, .. } => reorder(order, before.map(|_| key), after.map(|_| key)),
            Self::Picked(lot) => lot.update(key, before, after),
        }
    }

    /// The sandbox that the order prefers among those not in `others` (a short list).
    #[inline]
    pub(super) fn choose(&mut self, others: &[K], random: &mut Pcg32) -> Option<K> {
        let is_wanted = |key: &K| !others.contains(key);
        match self {
            // The warm path: looking at the first costs less than beginning to go through all.
            Self::Ranked { order, .. } if others.is_empty() => order.first().map(|(_, key)| *key),
            Self::Ranked { order, .. } => order.iter().map(|(_, key)| *key).find(is_wanted),
            Self::InTurn { order, last } => {
                let after = last.map_or(Unbounded, Excluded);
                let chosen = order.range((after, Unbounded)).chain(order.iter()).copied().find(is_wanted)?;
                *last = Some(chosen);
                Some(chosen)
            }
            Self::Picked(lot) => lot.choose(others, random),
        }
    }
}

impl<K: Copy + Ord> Places<K> {
    fn update(&mut self, key: K, before: Option<Use>, after: Option<Use>) {
        match (before, after) {
            (None, None) => {}
            (None, Some(used)) => {
                self.places.insert(key, self.keys.len());
                self.keys.push(key);
                self.in_use.push(used.in_use);
            }
            (Some(_), Some(used)) => {
                if let Some(&place) = self.places.get(&key) {
                    self.in_use[place] = used.in_use;
                }
            }
            (Some(_), None) => {
                let Some(place) = self.places.remove(&key) else { return };
                self.keys.swap_remove(place);
                self.in_use.swap_remove(place);
                if let Some(moved) = self.keys.get(place) {
                    self.places.insert(*moved, place);
                }
            }
        }
    }

    fn choose(&self, others: &[K], random: &mut Pcg32) -> Option<K> {
        if self.keys.is_empty() {
            return None;
        }
        let place = (self.pick)(&mut Lot { in_use: &self.in_use, random });
        // Where a pick is unwanted, those beside it are no less random.
        let (before, from) = self.keys.split_at(place);
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
