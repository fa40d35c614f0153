//! Load balancing `knative`: what the activator of Knative Serving 1.13 does, which depends on the concurrency.
//!
//! Reimplemented from its behaviour (pkg/activator/net, throttler.go and lb_policy.go):
//!
//!  * without a bound on concurrency, of two random sandboxes the one with fewer invocations. Functions here always have
//!    a bound, so that this is for completeness;
//!  * up to 3 at once, the first sandbox that has a free slot, in a fixed order (theirs: of addresses; here: of keys);
//!  * above, each in turn in that order. A sandbox that is full when it would be its turn loses it, unlike with
//!    `round-robin`.

use super::{Balance, BalancePolicy, power_of_two};

pub(super) const POLICY: Balance = Balance {
    name: "knative",
    about: "Knative's activator: the first with a free slot up to a concurrency of 3, above in turn",
    order: |concurrency| match concurrency {
        0 => BalancePolicy::Sampled(power_of_two::pick),
        1..=MAX_FIRST_FIT_CONCURRENCY => BalancePolicy::Ranked(|_| (0, 0)),
        _ => BalancePolicy::RoundRobin,
    },
};

/// Greatest concurrency for which Knative takes the first free sandbox.
const MAX_FIRST_FIT_CONCURRENCY: u32 = 3;
