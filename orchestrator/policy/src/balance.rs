//! In which sandbox an invocation runs: the load-balancing policies and the book of slots they order.
//!
//! A policy says, for a concurrency, in what [`Order`] sandboxes with a free slot are served. Whatever the order, a
//! choice costs O(log sandboxes) at most and allocates nothing.

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

/// In what order sandboxes with a free slot are served.
#[derive(Clone, Copy)]
enum BalancePolicy {
    /// The one that ranks lowest; equal ranks are ordered by key.
    Ranked(fn(InUse) -> Rank),
    /// The next one by key after the one chosen last.
    RoundRobin,
    /// The one at the place that the function names, which is below [`Lot::len`].
    Sampled(fn(&mut Candidates<'_>) -> usize),
}

/// What a ranking may look at.
#[derive(Clone, Copy, Debug)]
struct InUse {
    /// Slots in use.
    in_use: u32,
    /// Number of the last event (counted over the function) that took a slot of this sandbox; 0: never.
    acquired: u64,
    /// Number of the last event that gave one back; 0: never.
    released: u64,
}

/// Lower is served first.
type Rank = (u64, u64);

/// What a pick may look at: the sandboxes with a free slot, by place, in no order.
struct Candidates<'a> {
    in_use: &'a [u32],
    random: &'a mut Pcg32,
}

impl Candidates<'_> {
    /// How many there are, at least 1.
    fn len(&self) -> usize {
        self.in_use.len()
    }

    /// Slots in use of the sandbox at `place`.
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
    /// The name that configurations use.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// The order for functions of which one sandbox runs that many invocations at once.
    order: fn(u32) -> BalancePolicy,
}

/// Every policy; the first is the default.
static POLICIES: [Balance; 5] =
    [least_loaded::POLICY, round_robin::POLICY, random::POLICY, power_of_two::POLICY, knative::POLICY];

/// Every load-balancing policy; the first is the default.
#[must_use]
pub fn policies() -> &'static [Balance] {
    &POLICIES
}

/// The policy of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Balance> {
    POLICIES.iter().find(|policy| policy.name == name)
}

impl fmt::Debug for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
