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
    Picked { pick: fn(&mut Lot<'_>) -> usize, keys: Vec<K>, in_use: Vec<u32>, places: BTreeMap<K, usize> },
}

impl<K: Copy + Ord> Free<K> {
    /// Empty, for `order`.
    pub(super) fn new(order: Order) -> Self {
        match order {
            Order::Ranked(rank) => Self::Ranked { rank, order: BTreeSet::new() },
            Order::InTurn => Self::InTurn { order: BTreeSet::new(), last: None },
            Order::Picked(pick) => Self::Picked { pick, keys: Vec::new(), in_use: Vec::new(), places: BTreeMap::new() },
        }
    }

    /// Brings a sandbox from what it was to what it is; `None` is "without a free slot".
    pub(super) fn update(&mut self, key: K, before: Option<Use>, after: Option<Use>) {
        match self {
            Self::Ranked { rank, order } => {
                let place = |used: Use| (rank(used), key);
                reorder(order, before.map(place), after.map(place));
            }
            Self::InTurn { order, .. } => reorder(order, before.map(|_| key), after.map(|_| key)),
            Self::Picked { keys, in_use, places, .. } => match (before, after) {
                (None, None) => {}
                (None, Some(used)) => {
                    places.insert(key, keys.len());
                    keys.push(key);
                    in_use.push(used.in_use);
                }
                (Some(_), Some(used)) => {
                    if let Some(&place) = places.get(&key) {
                        in_use[place] = used.in_use;
                    }
                }
                (Some(_), None) => {
                    if let Some(place) = places.remove(&key) {
                        keys.swap_remove(place);
                        in_use.swap_remove(place);
                        if let Some(moved) = keys.get(place) {
                            places.insert(*moved, place);
                        }
                    }
                }
            },
        }
    }

    /// The sandbox that the order prefers among those not in `others` (a short list).
    pub(super) fn choose(&mut self, others: &[K], random: &mut Pcg32) -> Option<K> {
        let is_wanted = |key: &K| !others.contains(key);
        match self {
            Self::Ranked { order, .. } => order.iter().map(|(_, key)| *key).find(is_wanted),
            Self::InTurn { order, last } => {
                let after = last.map_or(Unbounded, Excluded);
                let chosen = order.range((after, Unbounded)).chain(order.iter()).copied().find(is_wanted)?;
                *last = Some(chosen);
                Some(chosen)
            }
            Self::Picked { pick, keys, in_use, .. } => {
                if keys.is_empty() {
                    return None;
                }
                let place = pick(&mut Lot { in_use: in_use.as_slice(), random });
                // Where a pick is unwanted, those beside it are no less random.
                let (before, from) = keys.split_at(place);
                from.iter().chain(before).copied().find(is_wanted)
            }
        }
    }
}

/// Brings one entry of an order from what it was to what it is.
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
