//! Placement: the policies that choose the node of a new sandbox, and the pool of nodes they choose from.
//!
//! Every policy examines a bounded number of open nodes (at random, or round-robin) and compares them. Only if none of
//! these fits, it asks the pool's index, which finds a node if there is one.

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

/// Nodes examined before the index is asked: enough that a cluster with room is placed on by the policy, few enough
/// that a nearly full one costs about a microsecond.
const MAX_SAMPLED: usize = 64;

/// A node, identified by a small number that the caller chooses and may reuse after removal. The pool's memory is
/// proportional to the greatest one in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey(pub u32);

/// One placement policy, as listed by [`policies`].
pub struct Policy {
    /// Name in configurations.
    pub name: &'static str,
    /// Description in one line.
    pub about: &'static str,
    pick: fn(&mut Candidates<'_>) -> Option<NodeKey>,
}

/// All policies; the first is the default.
static POLICIES: [Policy; 4] = [power_of_two::POLICY, random::POLICY, round_robin::POLICY, kubernetes::POLICY];

/// All placement policies; the first is the default.
#[must_use]
pub fn policies() -> &'static [Policy] {
    &POLICIES
}

/// Finds a policy by name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.name == name)
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A request for a node.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The policy that compares nodes.
    pub policy: &'static Policy,
    /// Resources that must be free on the node.
    pub resources: Resources,
    /// Nodes that are chosen only if no other fits (a short list of those where creation failed before).
    pub avoid: &'a [NodeKey],
}

/// State that is kept between placements, shared by all policies.
#[derive(Debug, Default)]
pub struct Placement {
    /// The last request that no node had room for, and the pool's capacity version then: nothing as large fits before
    /// that version changes. This holds for all policies, since each of them falls back to the index.
    refused: Option<(u64, Resources)>,
    /// Start of the next round-robin search.
    next_key: NodeKey,
}

impl Placement {
    /// Creates the initial state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses an open node with room for the request; `None` if there is none. Reserve on it before choosing again.
    ///
    /// Always pass the same pool; policies may differ from call to call.
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
        // Whatever nodes the request avoids: they are tried last, so none of them has room either.
        if chosen.is_none() {
            self.refused = Some((pool.capacity_version(), resources));
        }
        chosen
    }
}
