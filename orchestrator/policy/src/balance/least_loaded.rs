//! Load balancing `least-loaded`: the sandbox with the fewest slots in use.
//!
//! Ties go to the most recently used one, so that sandboxes beyond the demand become idle and can be returned.

use super::{Balance, BalancePolicy};

pub(super) const POLICY: Balance = Balance {
    name: "least-loaded",
    about: "the sandbox with the fewest invocations, among equals the one used last",
    order: |_| {
        // Subtracted, because the lowest rank wins and the most recent event has the greatest number.
        BalancePolicy::Ranked(|sandbox| (sandbox.in_use.into(), u64::MAX - sandbox.acquired.max(sandbox.released)))
    },
};
