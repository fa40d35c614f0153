//! In which sandbox an invocation runs: the load-balancing policies and the book of slots they order.
//!
//! A policy is a ranking: the sandbox with a free slot that ranks lowest gets the next invocation.

use std::fmt;

mod least_loaded;
mod round_robin;
mod slots;

pub use slots::Slots;

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Slots in use.
    in_use: u32,
    /// Number of the last event (counted over the function) that took a slot of this sandbox; 0: never.
    taken: u64,
    /// Number of the last event that gave one back; 0: never.
    given_back: u64,
}

/// Lower is served first; equal ranks are ordered by key.
type Rank = (u64, u64);

/// One load-balancing policy, as listed by [`policies`].
pub struct Balance {
    /// The name that configurations use.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    rank: fn(Use) -> Rank,
}

/// Every policy; the first is the default.
static POLICIES: [Balance; 2] = [least_loaded::POLICY, round_robin::POLICY];

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
