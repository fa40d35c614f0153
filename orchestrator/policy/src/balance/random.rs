//! Load balancing `random`: any sandbox with a free slot.

use super::{Balance, BalancePolicy};

pub(super) const POLICY: Balance = Balance {
    name: "random",
    about: "a random sandbox with a free slot",
    order: |_| BalancePolicy::Sampled(|candidates| candidates.below(candidates.len())),
};
