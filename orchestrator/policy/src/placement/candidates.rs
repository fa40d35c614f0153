//! The open nodes with room for one request, as a policy sees them: a bounded number, whatever the cluster's size. A
//! policy that finds none among these leaves the rest to the pool's index.

use std::cmp::Ordering;

use rand::{Rng, RngExt};

use super::{MAX_SAMPLED, NodeKey, Pool, Wanted};

/// The candidates for one request.
pub(super) struct Candidates<'a> {
    pool: &'a Pool,
    wanted: Wanted<'a>,
    rng: &'a mut dyn Rng,
    next_key: &'a mut NodeKey,
    draws_left: usize,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(pool: &'a Pool, wanted: Wanted<'a>, rng: &'a mut dyn Rng, next_key: &'a mut NodeKey) -> Self {
        // With few nodes, four draws per node reach nearly all of them.
        let draws_left = MAX_SAMPLED.min(pool.open_len() * 4);
        Self { pool, wanted, rng, next_key, draws_left }
    }

    /// A random open node with room, other than `besides` and the avoided; `None` once the draws are used up.
    pub(super) fn draw(&mut self, besides: Option<NodeKey>) -> Option<NodeKey> {
        let open = self.pool.open();
        while self.draws_left > 0 {
            // With replacement: repeats are rare among many nodes, and a list of drawn ones would cost more.
            self.draws_left -= 1;
            let node = open[self.rng.random_range(0..open.len())];
            if Some(node) != besides && self.is_wanted(node) {
                return Some(node);
            }
        }
        None
    }

    /// The node with room and the greatest score, ties broken at random, from a run of at most [`MAX_SAMPLED`]
    /// different open nodes that starts at a random one, so that a small cluster is examined as a whole.
    pub(super) fn best_of_sample(&mut self, score: impl Fn(&Self, NodeKey) -> u64) -> Option<NodeKey> {
        let open = self.pool.open();
        if open.is_empty() {
            return None;
        }
        let start = self.rng.random_range(0..open.len());
        let mut best: Option<(u64, NodeKey)> = None;
        let mut equals = 0;
        for step in 0..open.len().min(MAX_SAMPLED) {
            let node = open[(start + step) % open.len()];
            if !self.is_wanted(node) {
                continue;
            }
            let scored = score(self, node);
            match best.map_or(Ordering::Greater, |(greatest, _)| scored.cmp(&greatest)) {
                Ordering::Less => continue,
                Ordering::Equal => equals += 1,
                Ordering::Greater => equals = 1,
            }
            // The n-th of equals replaces its predecessors with probability 1/n, so that all have the same chance.
            if self.rng.random_range(0..equals) == 0 {
                best = Some((scored, node));
            }
        }
        best.map(|(_, node)| node)
    }

    /// The next open node with room by key, after the last one chosen. Examines a bounded number of keys, then asks the
    /// index.
    pub(super) fn next_round_robin(&mut self) -> Option<NodeKey> {
        let keys = self.pool.keys_len();
        let start = *self.next_key;
        let steps = keys.min(u32::try_from(MAX_SAMPLED).unwrap_or(u32::MAX));
        let walked = (0..steps).map(|step| NodeKey((start.0 + step) % keys)).find(|&node| self.is_wanted(node));
        let (pool, wanted) = (self.pool, self.wanted);
        let node = walked.or_else(|| {
            pool.find_fit(NodeKey((start.0 + steps) % keys.max(1)), wanted.resources, |node| {
                !wanted.avoid.contains(&node)
            })
        })?;
        *self.next_key = NodeKey((node.0 + 1) % keys.max(1));
        Some(node)
    }

    /// The greater of the two shares of `node` (CPU, memory) that would be reserved with the request.
    pub(super) fn reserved_share_after(&self, node: NodeKey) -> f64 {
        let [cpu, memory] = self.reserved_after(node);
        // None of a resource that the node lacks is no share of it, whereas 0 / 0 is no number.
        let share = |(part, whole): (u64, u64)| if part == 0 { 0.0 } else { part as f64 / whole as f64 };
        share(cpu).max(share(memory))
    }

    /// For CPU and memory of `node`: the reservation with the request, and the capacity.
    pub(super) fn reserved_after(&self, node: NodeKey) -> [(u64, u64); 2] {
        let capacity = self.pool.capacity(node).unwrap_or_default();
        let after = self.pool.reserved(node).unwrap_or_default() + self.wanted.resources;
        [(after.cpu_millicores, capacity.cpu_millicores), (after.memory_mib, capacity.memory_mib)]
    }

    /// Any open node with room: by the index, from a random start, the avoided last.
    pub(super) fn find_by_index(&mut self) -> Option<NodeKey> {
        let open = self.pool.open();
        if open.is_empty() {
            return None;
        }
        // A fixed start would fill a nearly full cluster in the order of keys.
        let start = open[self.rng.random_range(0..open.len())];
        let Wanted { resources, avoid, .. } = self.wanted;
        self.pool
            .find_fit(start, resources, |node| !avoid.contains(&node))
            .or_else(|| avoid.iter().copied().find(|&node| self.fits(node)))
    }

    fn is_wanted(&self, node: NodeKey) -> bool {
        self.fits(node) && !self.wanted.avoid.contains(&node)
    }

    fn fits(&self, node: NodeKey) -> bool {
        self.pool.is_open(node) && self.pool.has_room(node, self.wanted.resources)
    }
}
