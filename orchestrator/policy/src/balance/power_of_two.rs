//! Load balancing `power-of-two`: of two random sandboxes with a free slot, the one with fewer slots in use.
//!
//! Nearly as even as `least-loaded`, without looking at all of them (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing", 2001); but it keeps every sandbox a little busy, so that none goes idle for long.

use super::{Balance, BalancePolicy, Candidates};

pub(super) const POLICY: Balance = Balance {
    name: "power-of-two",
    about: "of two random sandboxes with a free slot, the one with fewer invocations",
    order: |_| BalancePolicy::Sampled(pick),
};

/// Two different indices if there are two; ties go to the first, which is random.
pub(super) fn pick(candidates: &mut Candidates<'_>) -> usize {
    let first = candidates.below(candidates.len());
    if candidates.len() == 1 {
        return first;
    }
    // An offset below the length never leads back to the first.
    let second = (first + 1 + candidates.below(candidates.len() - 1)) % candidates.len();
    if candidates.in_use(second) < candidates.in_use(first) { second } else { first }
}
