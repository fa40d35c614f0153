//! On which node a new sandbox is made: the placement policies and the pool of nodes they choose from.
//!
//! Owns the way every policy works: look at a bounded number of open nodes (at random, or in turn), let the policy
//! compare them, and only when none of these fits ask the pool's index, which finds a node if there is one.

use std::fmt;

use model::Resources;
use rand::Rng;

mod candidates;
mod fit;
mod kubernetes;
mod pool;
mod power_of_two;
mod random;
mod round_robin;

use candidates::Candidates;
pub use pool::Pool;

/// Most nodes looked at before the index is asked: enough that a cluster with room is placed on by the policy, few
/// enough that a nearly full one costs about a microsecond.
const MAX_SAMPLED: usize = 64;

/// A node, by a small number that the caller chooses and may use again after removal. The pool's memory is proportional
/// to the greatest one in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey(pub u32);

/// One placement policy, as listed by [`policies`].
pub struct Policy {
    /// The name that configurations use.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    pick: fn(&mut Candidates<'_>) -> Option<NodeKey>,
}

/// Every policy; the first is the default.
static POLICIES: [Policy; 4] = [power_of_two::POLICY, random::POLICY, round_robin::POLICY, kubernetes::POLICY];

/// Every placement policy; the first is the default.
#[must_use]
pub fn policies() -> &'static [Policy] {
    &POLICIES
}

/// The policy of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.name == name)
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a node is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Who compares the nodes.
    pub policy: &'static Policy,
    /// What must be free on the node.
    pub resources: Resources,
    /// Nodes that are chosen only when no other fits (a short list: where it failed before).
    pub avoid: &'a [NodeKey],
}

/// What is remembered from one placement to the next, for all policies together.
#[derive(Debug, Default)]
pub struct Placement {
    /// The last request that no node of the pool had room for, and how often room had been made by then: nothing as
    /// large fits until room is made again. That holds whatever the policy, since each of them ends at the index.
    refused: Option<(u64, Resources)>,
    /// Where the next turn begins, for policies that take turns.
    next_key: NodeKey,
}

impl Placement {
    /// Nothing placed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An open node with room for what is wanted, or `None` when there is none. Reserve on it before choosing again.
    ///
    /// Always use it with the same pool; policies may change from call to call.
    #[must_use]
    pub fn choose(&mut self, pool: &Pool, wanted: Wanted<'_>, rng: &mut impl Rng) -> Option<NodeKey> {
        let resources = wanted.resources;
        let is_refused =
            self.refused.is_some_and(|(room, refused)| room == pool.capacity_version() && refused.fits_in(resources));
        if is_refused || !pool.may_fit_anywhere(resources) {
            return None;
        }
        let mut candidates = Candidates::new(pool, wanted, rng, &mut self.next_key);
        let chosen = (wanted.policy.pick)(&mut candidates).or_else(|| candidates.find_by_index());
        if chosen.is_none() {
            self.refused = Some((pool.capacity_version(), resources));
        }
        chosen
    }
}
