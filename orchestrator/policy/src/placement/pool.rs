//! The nodes that sandboxes may be placed on, with their reservations.
//!
//! Owns the rule that CPU and memory are reserved together and never beyond a node's capacity.

use model::Resources;

use super::{NodeKey, fit::FitTree};

/// Nodes, their capacity and their reservations.
///
/// Every change costs O(log nodes); the index is rebuilt only when the greatest key doubles.
#[derive(Debug, Default)]
pub struct Pool {
    /// By key.
    nodes: Vec<Option<Node>>,
    /// Open nodes in no order, for random draws.
    open: Vec<NodeKey>,
    /// Index over the free resources of open nodes.
    fits: FitTree,
    /// Counts the changes that freed capacity: a node inserted, opened or grown, a reservation released.
    capacity_version: u64,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    capacity: Resources,
    reserved: Resources,
    /// Its index in `open`; `None` if it is closed.
    open_at: Option<usize>,
}

impl Node {
    /// Resources that may still be reserved; `None` if the node is overcommitted.
    fn room(&self) -> Option<Resources> {
        self.capacity.checked_sub(self.reserved)
    }

    fn free(&self) -> Resources {
        Resources {
            cpu_millicores: self.capacity.cpu_millicores.saturating_sub(self.reserved.cpu_millicores),
            memory_mib: self.capacity.memory_mib.saturating_sub(self.reserved.memory_mib),
        }
    }
}

impl Pool {
    /// Creates an empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a node, open and without reservations. For a known one, changes only its capacity.
    pub fn insert(&mut self, key: NodeKey, capacity: Resources) {
        let at = index(key);
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, None);
        }
        match &mut self.nodes[at] {
            Some(node) => node.capacity = capacity,
            vacant => {
                *vacant = Some(Node { capacity, reserved: Resources::default(), open_at: Some(self.open.len()) });
                self.open.push(key);
                self.len += 1;
            }
        }
        // Also for a node that shrank: a search in vain is harmless, a missing one is not.
        self.capacity_version += 1;
        self.reindex(key);
    }

    /// Removes a node with its reservations. Returns false if it is unknown.
    pub fn remove(&mut self, key: NodeKey) -> bool {
        if self.node(key).is_none() {
            return false;
        }
        // Closed first, which takes it out of the draws and the index.
        self.set_open(key, false);
        self.nodes[index(key)] = None;
        self.len -= 1;
        true
    }

    /// Opens a node for placement or closes it; reservations stay. Unknown nodes are ignored.
    pub fn set_open(&mut self, key: NodeKey, open: bool) {
        let next = self.open.len();
        let Some(node) = self.node_mut(key) else { return };
        match (node.open_at, open) {
            (None, true) => {
                node.open_at = Some(next);
                self.open.push(key);
                self.capacity_version += 1;
            }
            (Some(at), false) => {
                node.open_at = None;
                self.open.swap_remove(at);
                if let Some(&moved) = self.open.get(at)
                    && let Some(moved) = self.node_mut(moved)
                {
                    moved.open_at = Some(at);
                }
            }
            _ => return,
        }
        self.reindex(key);
    }

    /// Reserves `request` on a node, open or closed. Returns false without a change if it has no room or is unknown.
    #[must_use = "without a reservation nothing may be started"]
    pub fn reserve(&mut self, key: NodeKey, request: Resources) -> bool {
        let fits = self.has_room(key, request);
        if fits {
            self.adopt(key, request);
        }
        fits
    }

    /// Reserves `held` for an existing sandbox, even beyond the capacity (the node came back smaller): then nothing
    /// more is reserved there until enough is released. Unknown nodes are ignored.
    pub fn adopt(&mut self, key: NodeKey, held: Resources) {
        if let Some(node) = self.node_mut(key) {
            node.reserved = Resources {
                cpu_millicores: node.reserved.cpu_millicores.saturating_add(held.cpu_millicores),
                memory_mib: node.reserved.memory_mib.saturating_add(held.memory_mib),
            };
            self.reindex(key);
        }
    }

    /// Releases a reservation. Returns false without a change if that much is not reserved there.
    pub fn release(&mut self, key: NodeKey, request: Resources) -> bool {
        let Some(node) = self.node_mut(key) else { return false };
        let Some(left) = node.reserved.checked_sub(request) else { return false };
        node.reserved = left;
        self.capacity_version += 1;
        self.reindex(key);
        true
    }

    /// Free resources of a node; `None` if it is unknown.
    #[must_use]
    pub fn free(&self, key: NodeKey) -> Option<Resources> {
        self.node(key).map(Node::free)
    }

    /// Capacity of a node; `None` if it is unknown.
    #[must_use]
    pub fn capacity(&self, key: NodeKey) -> Option<Resources> {
        self.node(key).map(|node| node.capacity)
    }

    /// Reserved resources of a node; `None` if it is unknown.
    #[must_use]
    pub fn reserved(&self, key: NodeKey) -> Option<Resources> {
        self.node(key).map(|node| node.reserved)
    }

    /// Returns true if a node is known and open for placement.
    #[must_use]
    pub fn is_open(&self, key: NodeKey) -> bool {
        self.node(key).is_some_and(|node| node.open_at.is_some())
    }

    /// Number of nodes, open or closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of nodes open for placement.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.open.len()
    }

    /// A counter of changes that freed capacity: while it is unchanged, a request that fitted nowhere still does not.
    #[must_use]
    pub fn capacity_version(&self) -> u64 {
        self.capacity_version
    }

    pub(super) fn open(&self) -> &[NodeKey] {
        &self.open
    }

    /// Exclusive upper bound of the keys in use.
    pub(super) fn keys_len(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// Returns true if a node, open or closed, has room for `request`.
    #[must_use]
    pub fn has_room(&self, key: NodeKey, request: Resources) -> bool {
        self.node(key).and_then(Node::room).is_some_and(|room| request.fits_in(room))
    }

    /// Returns false if no node can have room; a quick check that may return true without need.
    pub(super) fn may_fit_anywhere(&self, request: Resources) -> bool {
        self.fits.may_fit_anywhere(request)
    }

    /// An open node with room that is `wanted`: the first at or after `start` by key, then from the beginning.
    pub(super) fn find_fit(
        &self,
        start: NodeKey,
        request: Resources,
        wanted: impl Fn(NodeKey) -> bool,
    ) -> Option<NodeKey> {
        self.fits
            .find(index(start), request, |at| u32::try_from(at).is_ok_and(|key| wanted(NodeKey(key))))
            .and_then(|at| u32::try_from(at).ok().map(NodeKey))
    }

    fn node(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.get(index(key))?.as_ref()
    }

    fn node_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.nodes.get_mut(index(key))?.as_mut()
    }

    fn reindex(&mut self, key: NodeKey) {
        let room = self.node(key).filter(|node| node.open_at.is_some()).and_then(Node::room);
        self.fits.set(index(key), room);
    }
}

fn index(key: NodeKey) -> usize {
    usize::try_from(key.0).expect("a machine this runs on has at least 32-bit addresses")
}
