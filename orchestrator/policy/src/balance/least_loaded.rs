//! Load balancing `least-loaded`: the sandbox with the fewest slots in use.
//!
//! Among equals the one used last, so that sandboxes beyond the demand go idle and can be given back.

use super::{Balance, Order};

pub(super) const POLICY: Balance = Balance {
    name: "least-loaded",
    about: "the sandbox with the fewest invocations, among equals the one used last",
    order: |_| Order::Ranked(|sandbox| (sandbox.in_use.into(), u64::MAX - sandbox.taken.max(sandbox.given_back))),
};
