//! Load balancing `power-of-two`: of two random sandboxes with a free slot, the one with fewer slots in use.
//!
//! Nearly as even as `least-loaded`, without looking at all of them (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing", 2001); but it keeps every sandbox a little busy, so that none goes idle for long.

use super::{Balance, Lot, Order};

pub(super) const POLICY: Balance = Balance {
    name: "power-of-two",
    about: "of two random sandboxes with a free slot, the one with fewer invocations",
    order: |_| Order::Picked(pick),
};

/// Two different places, as far as there are two; among equals the first, which is a random one.
pub(super) fn pick(lot: &mut Lot<'_>) -> usize {
    let first = lot.below(lot.len());
    if lot.len() == 1 {
        return first;
    }
    let second = (first + 1 + lot.below(lot.len() - 1)) % lot.len();
    if lot.in_use(second) < lot.in_use(first) { second } else { first }
}
