//! Load balancing `random`: any sandbox with a free slot.

use super::{Balance, Order};

pub(super) const POLICY: Balance = Balance {
    name: "random",
    about: "a random sandbox with a free slot",
    order: |_| Order::Picked(|lot| lot.below(lot.len())),
};
