//! The table of nodes, with what is reserved on them and which of them take sandboxes.

use std::sync::Arc;

use model::{FunctionId, NodeName, NodeSpec, Resources, SandboxId};
use policy::placement::{NodeKey, Pool};

use super::{
    super::{Map, SessionId},
    data_plane::DataPlaneKey,
    node::{Node, NodeState},
    offer::{Offer, Service},
    worker_load::WorkerLoads,
};

/// A node that has failed so many functions, and none succeeded since, is believed to fail them all.
const FAILED_FUNCTIONS: usize = 3;
/// Failing nodes that placement avoids at most: it searches the list for each node it considers.
const MAX_FAILING_NODES: usize = 8;

/// All nodes, by dense key.
#[derive(Default)]
pub(in crate::state) struct Nodes {
    nodes: Vec<Option<Node>>,
    by_name: Map<NodeName, NodeKey>,
    pool: Pool,
    loads: WorkerLoads,
    /// Nodes that fail whatever is placed on them, newest last, and until when each is avoided, in microseconds.
    failing: Vec<(NodeKey, u64)>,
}

impl Nodes {
    /// The node behind a key that the caller got from here; nodes with sandboxes are never removed.
    pub(in crate::state) fn get(&self, key: NodeKey) -> &Node {
        self.nodes[key.0 as usize].as_ref().expect("a key in use names a node")
    }

    pub(in crate::state) fn get_mut(&mut self, key: NodeKey) -> &mut Node {
        self.nodes[key.0 as usize].as_mut().expect("a key in use names a node")
    }

    /// Returns true if a stored key still names a node.
    pub(in crate::state) fn contains(&self, key: NodeKey) -> bool {
        self.nodes.get(key.0 as usize).is_some_and(Option::is_some)
    }

    pub(in crate::state) fn find(&self, name: &str) -> Option<NodeKey> {
        self.by_name.get(&NodeName(name.into())).copied()
    }

    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (NodeKey, &Node)> {
        self.nodes.iter().zip(0..).filter_map(|(node, key)| node.as_ref().map(|node| (NodeKey(key), node)))
    }

    pub(in crate::state) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().flatten()
    }

    /// Adds a node, or gives a known one its new capacity. It is closed until its worker connects.
    pub(in crate::state) fn put(&mut self, spec: &NodeSpec) -> NodeKey {
        if let Some(&key) = self.by_name.get(&spec.name) {
            let node = self.get_mut(key);
            if node.capacity != spec.capacity {
                node.capacity = spec.capacity;
                self.pool.insert(key, spec.capacity);
                self.refresh_open(key);
            }
            return key;
        }
        let free = self.nodes.iter().position(Option::is_none);
        let place = free.unwrap_or(self.nodes.len());
        let key = NodeKey(u32::try_from(place).expect("fewer than 2^32 nodes"));
        let node = Node::new(spec);
        if free.is_some() {
            self.nodes[place] = Some(node);
        } else {
            self.nodes.push(Some(node));
        }
        self.by_name.insert(spec.name.clone(), key);
        self.pool.insert(key, spec.capacity);
        self.pool.set_open(key, false);
        key
    }

    /// Capacity and reservations of the nodes, as placement reads them.
    pub(in crate::state) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The capacity in service, and the reasons why other nodes are not. Goes through all nodes.
    pub(in crate::state) fn offer(&self) -> Offer {
        Offer::of(self.iter().map(|(_, node)| (node.service(), node.capacity)))
    }

    /// Removes a node that holds nothing.
    pub(in crate::state) fn remove(&mut self, key: NodeKey) {
        if let Some(node) = self.nodes[key.0 as usize].take() {
            self.by_name.remove(&node.name);
            self.failing.retain(|(failing, _)| *failing != key);
            self.pool.remove(key);
        }
    }

    /// Opens or closes a node for placement, according to its state, its worker and its operator.
    fn refresh_open(&mut self, key: NodeKey) {
        let open = self.get(key).service() == Service::In;
        self.pool.set_open(key, open);
    }

    #[cfg(test)]
    pub(super) fn sandboxes_of_workers(&self) -> std::collections::BTreeMap<&str, usize> {
        self.loads.sandboxes()
    }

    /// Reserves room for a sandbox; `false`, and nothing reserved, when there is none.
    pub(super) fn reserve(&mut self, key: NodeKey, sandbox: SandboxId, resources: Resources) -> bool {
        let is_reserved = self.pool.reserve(key, resources);
        if is_reserved {
            self.add(key, sandbox);
        }
        is_reserved
    }

    pub(super) fn release(&mut self, key: NodeKey, sandbox: SandboxId, resources: Resources) {
        if self.get_mut(key).sandboxes.remove(&sandbox) {
            let was_reserved = self.pool.release(key, resources);
            debug_assert!(was_reserved, "what a sandbox reserved is released once");
            let worker = self.get(key).worker.clone();
            if self.loads.subtract(&worker, 1) {
                self.refresh_worker(&worker);
            }
        }
    }

    /// Takes note of a reservation that exists already, whether it fits or not.
    pub(super) fn adopt(&mut self, key: NodeKey, sandbox: SandboxId, resources: Resources) {
        if self.add(key, sandbox) {
            self.pool.adopt(key, resources);
        }
    }

    /// A worker connects, with what it has there: the node is in service.
    pub(in crate::state) fn attach(&mut self, key: NodeKey, session: SessionId, worker: &Arc<str>, index: u32) {
        let node = self.get_mut(key);
        (node.session, node.index, node.state, node.leaving) = (Some(session), index, NodeState::Ready, false);
        self.assign(key, worker);
        self.refresh_open(key);
    }

    /// Its worker's connection ended; the last heartbeat came at `since_us`, in microseconds.
    pub(in crate::state) fn detach(&mut self, key: NodeKey, since_us: u64) {
        self.get_mut(key).session = None;
        self.set_last_heartbeat(key, since_us);
        self.refresh_open(key);
    }

    pub(in crate::state) fn set_state(&mut self, key: NodeKey, state: NodeState) {
        self.get_mut(key).state = state;
        self.refresh_open(key);
    }

    pub(in crate::state) fn set_drained(&mut self, key: NodeKey, drained: bool) {
        self.get_mut(key).drained = drained;
        self.refresh_open(key);
    }

    /// Its worker shuts down.
    pub(in crate::state) fn set_leaving(&mut self, key: NodeKey) {
        self.get_mut(key).leaving = true;
        self.refresh_open(key);
    }

    /// A worker announces a node, with what it has there.
    fn assign(&mut self, key: NodeKey, worker: &Arc<str>) {
        let node = self.get_mut(key);
        let (before, sandboxes) = (std::mem::replace(&mut node.worker, worker.clone()), node.sandboxes.len());
        if before != *worker {
            let has_room_again = self.loads.subtract(&before, sandboxes);
            let is_filled = self.loads.add(worker, sandboxes);
            if has_room_again {
                self.refresh_worker(&before);
            }
            if is_filled {
                self.refresh_worker(worker);
            }
        }
        self.get_mut(key).is_worker_full = self.loads.is_full(worker);
    }

    /// A node has a further sandbox; `false` when it had it already.
    fn add(&mut self, key: NodeKey, sandbox: SandboxId) -> bool {
        let node = self.get_mut(key);
        let is_new = node.sandboxes.insert(sandbox);
        let worker = node.worker.clone();
        if is_new && self.loads.add(&worker, 1) {
            self.refresh_worker(&worker);
        }
        is_new
    }

    /// A worker has become full, or is so no longer: goes through all nodes.
    fn refresh_worker(&mut self, worker: &str) {
        let is_full = self.loads.is_full(worker);
        let of_worker = self.iter().filter(|(_, node)| *node.worker == *worker).map(|(key, _)| key);
        for key in of_worker.collect::<Vec<_>>() {
            self.get_mut(key).is_worker_full = is_full;
            self.refresh_open(key);
        }
    }

    /// Nodes that fail whatever is placed on them, and until when each is avoided, in microseconds.
    pub(in crate::state) fn failing(&self) -> impl Iterator<Item = &(NodeKey, u64)> {
        self.failing.iter()
    }

    /// A creation of a function failed on a node. Only failures of several functions are attributed to the node.
    pub(in crate::state) fn creation_failed(&mut self, key: NodeKey, function: FunctionId, avoided_until_us: u64) {
        let failed = &mut self.get_mut(key).failed;
        if failed.len() < FAILED_FUNCTIONS && !failed.contains(&function) {
            failed.push(function);
        }
        if failed.len() == FAILED_FUNCTIONS {
            self.failing.retain(|(failing, _)| *failing != key);
            self.failing.push((key, avoided_until_us));
            if self.failing.len() > MAX_FAILING_NODES {
                self.failing.remove(0);
            }
        }
    }

    /// A data plane cannot reach a sandbox of a node. Returns true if another data plane reported the same and its
    /// report still counts at `now_us`; this report counts until `until_us`.
    pub(in crate::state) fn note_out_of_reach(
        &mut self,
        key: NodeKey,
        by: DataPlaneKey,
        now_us: u64,
        until_us: u64,
    ) -> bool {
        let before = self.get_mut(key).out_of_reach.replace((by, until_us));
        before.is_some_and(|(other, until_us)| other != by && now_us < until_us)
    }

    /// A creation on a node succeeded.
    pub(in crate::state) fn creation_succeeded(&mut self, key: NodeKey) {
        self.get_mut(key).failed = Vec::new();
        self.failing.retain(|(failing, _)| *failing != key);
    }

    /// Sets the time of the last heartbeat of a node's worker.
    pub(in crate::state) fn set_last_heartbeat(&mut self, key: NodeKey, since_us: u64) {
        self.get_mut(key).last_heartbeat_us = since_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MAX_SANDBOXES;

    const SMALL: Resources = Resources { cpu_millicores: 1000, memory_mib: 1000 };

    /// Nodes in these states, and drained or not, of 1000 MiB and 1000 millicores each.
    fn nodes(states: &[(NodeState, bool)]) -> Nodes {
        let mut nodes = Nodes::default();
        for (index, (state, drained)) in states.iter().enumerate() {
            let name = NodeName(format!("n{index}").into());
            nodes.put(&NodeSpec { name: name.clone(), capacity: SMALL });
            let key = nodes.find(&name.0).unwrap();
            let node = nodes.get_mut(key);
            (node.state, node.drained, node.session) = (*state, *drained, Some(SessionId(1)));
        }
        nodes
    }

    #[test]
    fn nodes_out_of_service_are_not_called_full() {
        use NodeState::{Dead, Ready, Suspect};
        let text = |states: &[_], wanted| nodes(states).offer().no_room(wanted);
        assert_eq!(text(&[], SMALL), "no node has room: no worker has joined the cluster");
        assert_eq!(
            text(&[(Ready, true)], SMALL),
            "no node is in service: 1 drained (`dirigent node drain NAME --undo` takes it back)"
        );
        assert_eq!(
            text(&[(Suspect, false), (Dead, true), (Suspect, true)], SMALL),
            "no node is in service: 2 suspect (not heard of), 1 dead"
        );
        let room = "no node has room for 1000 MiB and 1000 millicores";
        assert_eq!(text(&[(Ready, false)], SMALL), room);
        assert_eq!(text(&[(Ready, false), (Dead, false)], SMALL), format!("{room}; of the others 1 dead"));
        let large = Resources { memory_mib: 2000, ..SMALL };
        let expected = "no node has room for 2000 MiB and 1000 millicores (largest 1000 MiB and 1000 millicores)";
        assert_eq!(text(&[(Ready, false)], large), expected);
    }

    #[test]
    fn a_worker_gets_no_more_sandboxes_than_its_hello_may_name() {
        let mut nodes = nodes(&[(NodeState::Ready, false); 3]);
        let [first, second, other] = ["n0", "n1", "n2"].map(|name| nodes.find(name).unwrap());
        for (key, worker) in [(first, "w"), (second, "w"), (other, "v")] {
            nodes.assign(key, &worker.into());
            nodes.refresh_open(key);
        }
        let id = |number: usize| SandboxId::new(model::Epoch(1), number as u64).unwrap();
        let none = Resources::default();
        for number in 1..MAX_SANDBOXES {
            assert!(nodes.reserve(if number % 2 == 0 { first } else { second }, id(number), none));
        }
        let open = |nodes: &Nodes| [first, second, other].map(|key| nodes.pool.is_open(key));
        assert_eq!(open(&nodes), [true; 3]);
        nodes.adopt(first, id(MAX_SANDBOXES), none);
        assert_eq!(open(&nodes), [false, false, true], "all of its nodes are as if full");
        let text = nodes.offer().no_room(SMALL);
        assert!(text.ends_with("; of the others 2 of a worker that has as many sandboxes as one may have"), "{text}");
        // Known again after its worker was away, it is full still.
        nodes.assign(second, &"w".into());
        nodes.refresh_open(second);
        assert!(!nodes.pool.is_open(second));
        for number in 1..1000 {
            nodes.release(if number % 2 == 0 { first } else { second }, id(number), none);
        }
        assert_eq!(open(&nodes), [true; 3], "there is room again");
        // Another worker announces one of its nodes: what is there counts there.
        nodes.assign(first, &"v".into());
        for number in 0..MAX_SANDBOXES / 2 + 500 {
            assert!(nodes.reserve(other, id(2 * MAX_SANDBOXES + number), none));
        }
        assert_eq!(open(&nodes), [false, true, false]);
    }
}
