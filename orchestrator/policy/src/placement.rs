//! On which node a new sandbox is made: the placement policies and the pool of nodes they choose from.
//!
//! Owns the way every policy works: sample a bounded number of open nodes at random, let the policy compare them, and
//! only when none of the sampled fits ask the pool's index, which finds a node if there is one.

use std::fmt;

use model::Resources;
use rand::{Rng, RngExt};

mod fit;
mod pool;
mod power_of_two;
mod random;

pub use pool::Pool;

/// Most nodes looked at before the index is asked: enough that a cluster with room is placed on by the policy, few
/// enough that a nearly full one costs about a microsecond.
const MAX_SAMPLED: usize = 64;

/// A node, by a small number that the caller chooses and may use again after removal. The pool's memory is proportional
/// to the greatest one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
static POLICIES: [Policy; 2] = [power_of_two::POLICY, random::POLICY];

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

/// A placement policy at work.
#[derive(Debug)]
pub struct Placement {
    policy: &'static Policy,
    /// The last request that no node of the pool had room for, and how often room had been made by then: nothing as
    /// large fits until room is made again.
    refused: Option<(u64, Resources)>,
}

impl Placement {
    /// `policy`, nothing placed yet.
    #[must_use]
    pub fn new(policy: &'static Policy) -> Self {
        Self { policy, refused: None }
    }

    /// An open node with room for `request`, or `None` when there is none. Reserve on it before choosing again.
    ///
    /// A node in `avoid` (a short list: where it failed before) is chosen only when no other fits.
    /// Always use it with the same pool.
    #[must_use]
    pub fn choose(
        &mut self,
        pool: &Pool,
        request: Resources,
        avoid: &[NodeKey],
        rng: &mut impl Rng,
    ) -> Option<NodeKey> {
        let is_refused =
            self.refused.is_some_and(|(room, refused)| room == pool.room_made() && refused.fits_in(request));
        if is_refused || !pool.may_have_room(request) {
            return None;
        }
        let mut candidates = Candidates::new(pool, request, avoid, rng);
        let chosen = (self.policy.pick)(&mut candidates).or_else(|| candidates.look_up());
        if chosen.is_none() {
            self.refused = Some((pool.room_made(), request));
        }
        chosen
    }
}

/// The open nodes with room for one request, as a policy meets them: drawn at random, a bounded number of times.
struct Candidates<'a> {
    pool: &'a Pool,
    request: Resources,
    avoid: &'a [NodeKey],
    rng: &'a mut dyn Rng,
    draws_left: usize,
}

impl<'a> Candidates<'a> {
    fn new(pool: &'a Pool, request: Resources, avoid: &'a [NodeKey], rng: &'a mut dyn Rng) -> Self {
        // With few nodes, four draws for each meet nearly all of them.
        let draws_left = MAX_SAMPLED.min(pool.open_len() * 4);
        Self { pool, request, avoid, rng, draws_left }
    }

    /// A random open node with room, other than `besides` and the avoided; `None` when the draws are used up.
    fn draw(&mut self, besides: Option<NodeKey>) -> Option<NodeKey> {
        let open = self.pool.open();
        while self.draws_left > 0 {
            self.draws_left -= 1;
            let node = open[self.rng.random_range(0..open.len())];
            if Some(node) != besides && !self.avoid.contains(&node) && self.pool.has_room(node, self.request) {
                return Some(node);
            }
        }
        None
    }

    /// The greater of the two shares of `node` (CPU, memory) that would be reserved with the request on it.
    fn reserved_share_after(&self, node: NodeKey) -> f64 {
        let (Some(capacity), Some(reserved)) = (self.pool.capacity(node), self.pool.reserved(node)) else {
            return f64::INFINITY;
        };
        let after = reserved + self.request;
        let share = |part: u64, whole: u64| if part == 0 { 0.0 } else { part as f64 / whole as f64 };
        share(after.cpu_millicores, capacity.cpu_millicores).max(share(after.memory_mib, capacity.memory_mib))
    }

    /// Any open node with room: by the index, from a random place on, the avoided last.
    fn look_up(&mut self) -> Option<NodeKey> {
        let open = self.pool.open();
        if open.is_empty() {
            return None;
        }
        let start = open[self.rng.random_range(0..open.len())];
        self.pool.find_room(start, self.request, |node| !self.avoid.contains(&node)).or_else(|| {
            self.avoid.iter().copied().find(|&node| self.pool.is_open(node) && self.pool.has_room(node, self.request))
        })
    }
}
