//! Load balancing: the policies that choose the sandbox of an invocation, and the slot accounting that they order.
//!
//! A policy returns, for a concurrency, the [`BalancePolicy`] by which sandboxes with a free slot are chosen. A choice
//! costs at most O(log sandboxes) and allocates nothing.

use std::fmt;

use rand::RngExt;
use rand_pcg::Pcg32;

mod free;
mod knative;
mod least_loaded;
mod power_of_two;
mod random;
mod round_robin;
mod slots;

pub use slots::Slots;

/// The rule by which a sandbox with a free slot is chosen.
#[derive(Clone, Copy)]
enum BalancePolicy {
    /// The one of lowest rank; ties are broken by key.
    Ranked(fn(InUse) -> Rank),
    /// The next one by key after the last choice.
    RoundRobin,
    /// The one at the index that the function returns, which is below [`Candidates::len`].
    Sampled(fn(&mut Candidates<'_>) -> usize),
}

/// The properties of a sandbox that a ranking may use.
#[derive(Clone, Copy, Debug)]
struct InUse {
    /// Slots in use.
    in_use: u32,
    /// Number of the last event (counted per function) that acquired a slot of this sandbox; 0: none.
    acquired: u64,
    /// Number of the last event that released one; 0: none.
    released: u64,
}

/// Lower ranks are chosen first.
type Rank = (u64, u64);

/// The sandboxes with a free slot, by index in no order, for policies that sample.
struct Candidates<'a> {
    in_use: &'a [u32],
    random: &'a mut Pcg32,
}

impl Candidates<'_> {
    /// Number of candidates, at least 1.
    fn len(&self) -> usize {
        self.in_use.len()
    }

    /// Slots in use of the sandbox at `index`.
    fn in_use(&self, index: usize) -> u32 {
        self.in_use[index]
    }

    /// A random number below `bound`, which is at least 1.
    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }
}

/// One load-balancing policy, as listed by [`policies`].
pub struct Balance {
    /// Name in configurations.
    pub name: &'static str,
    /// Description in one line.
    pub about: &'static str,
    /// The rule for functions whose sandboxes have that concurrency.
    order: fn(u32) -> BalancePolicy,
}

/// All policies; the first is the default.
static POLICIES: [Balance; 5] =
    [least_loaded::POLICY, round_robin::POLICY, random::POLICY, power_of_two::POLICY, knative::POLICY];

/// All load-balancing policies; the first is the default.
#[must_use]
pub fn policies() -> &'static [Balance] {
    &POLICIES
}

/// Finds a policy by name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Balance> {
    POLICIES.iter().find(|policy| policy.name == name)
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
