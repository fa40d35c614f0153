//! Load balancing `round-robin`: each sandbox in turn.
//!
//! The turn goes to the one whose last turn is longest ago, so that a sandbox that was full when it would have been
//! its turn is served as soon as it has a free slot.

use super::{Balance, BalancePolicy};

pub(super) const POLICY: Balance = Balance {
    name: "round-robin",
    about: "each sandbox with a free slot in turn",
    order: |_| BalancePolicy::Ranked(|sandbox| (sandbox.acquired, 0)),
};
