//! The durable part of the control plane: the result of the commands in the log.
//!
//! Applying a command is total: it cannot fail, reads no clock and knows no connection. So every replica that applies
//! the same commands at the same indexes has the same registry, and decisions follow from the same state as after a
//! replay.

mod history;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use model::{
    ClusterId, DataPlaneId, FunctionId, FunctionName, FunctionSpec, NodeName, NodeSpec, Registered, Resources, Revision,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::history::{History, Knowledge, WHY};
use crate::store::{Command, Logged};

/// The functions, nodes, data planes and epochs of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registry {
    cluster: Option<ClusterId>,
    epochs: History,
    functions: BTreeMap<FunctionName, Arc<Registered>>,
    nodes: BTreeMap<NodeName, RegisteredNode>,
    data_planes: BTreeSet<DataPlaneId>,
    function_index: u64,
    data_plane_index: u64,
    data_plane_removal_index: u64,
}

/// A node as its worker announced it and operators want it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegisteredNode {
    pub(crate) capacity: Resources,
    /// No sandbox may be placed on it, by an operator's order.
    pub(crate) drained: bool,
}

/// Effect of a command on the registry, which the tables follow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The cluster or an epoch has begun.
    Begun,
    FunctionAdded(Arc<Registered>),
    /// Another specification is in force. `needs_new_sandboxes` if sandboxes of the one before cannot serve it.
    FunctionUpdated {
        registered: Arc<Registered>,
        needs_new_sandboxes: bool,
    },
    FunctionUnchanged,
    FunctionRemoved(FunctionId),
    NodePut(NodeSpec),
    NodeDrained {
        name: NodeName,
        drained: bool,
    },
    NodeRemoved(NodeName),
    DataPlanePut(DataPlaneId),
    DataPlaneRemoved(DataPlaneId),
    /// Nothing: the command names something that is not there.
    NotFound,
}

impl Registry {
    /// Applies the commands of a log, in order.
    pub(crate) fn replay(log: impl IntoIterator<Item = Logged>) -> Self {
        let mut registry = Self::default();
        for Logged { index, command } in log {
            registry.apply(index, command);
        }
        registry
    }

    /// Carries out the command at `index`, which is greater than that of any before.
    pub(crate) fn apply(&mut self, index: u64, command: Command) -> Change {
        match command {
            Command::BeginCluster { id } => {
                self.cluster.get_or_insert(id);
                Change::Begun
            }
            Command::BeginEpoch { epoch, nonce } => {
                self.epochs.begin(index, epoch, nonce);
                // What was compacted away may have been of a higher index than any function that is left.
                self.function_index = index;
                Change::Begun
            }
            Command::PutFunction { spec } => self.put_function(index, *spec),
            Command::KeepFunction { registered } => self.add_function(index, *registered),
            Command::DeleteFunction { name } => match self.functions.remove(&name) {
                Some(registered) => {
                    self.function_index = index;
                    Change::FunctionRemoved(registered.id)
                }
                None => Change::NotFound,
            },
            Command::PutNode { node } => {
                let NodeSpec { name, capacity } = node.clone();
                let put = RegisteredNode { capacity, drained: false };
                self.nodes.entry(name).and_modify(|known| known.capacity = capacity).or_insert(put);
                Change::NodePut(node)
            }
            Command::DrainNode { name, drained } => match self.nodes.get_mut(&name) {
                Some(node) => {
                    node.drained = drained;
                    Change::NodeDrained { name, drained }
                }
                None => Change::NotFound,
            },
            Command::RemoveNode { name } => match self.nodes.remove(&name) {
                Some(_) => Change::NodeRemoved(name),
                None => Change::NotFound,
            },
            Command::PutDataPlane { id } => {
                self.data_planes.insert(id.clone());
                self.data_plane_index = index;
                Change::DataPlanePut(id)
            }
            Command::RemoveDataPlane { id } => {
                // Also of one that is not there: a compacted log has only the newest removal, without what it removed.
                (self.data_plane_index, self.data_plane_removal_index) = (index, index);
                if self.data_planes.remove(&id) { Change::DataPlaneRemoved(id) } else { Change::NotFound }
            }
        }
    }

    fn put_function(&mut self, index: u64, spec: FunctionSpec) -> Change {
        match self.functions.entry(spec.name.clone()) {
            Entry::Vacant(_) => {
                self.add_function(index, Registered { id: FunctionId(index), revision: Revision(index), spec })
            }
            Entry::Occupied(known) if known.get().spec == spec => Change::FunctionUnchanged,
            Entry::Occupied(mut known) => {
                let needs_new_sandboxes = Arc::make_mut(known.get_mut()).update(spec, Revision(index));
                self.function_index = index;
                Change::FunctionUpdated { registered: known.get().clone(), needs_new_sandboxes }
            }
        }
    }

    fn add_function(&mut self, index: u64, registered: Registered) -> Change {
        let registered = Arc::new(registered);
        self.functions.insert(registered.spec.name.clone(), registered.clone());
        self.function_index = index;
        Change::FunctionAdded(registered)
    }

    /// The cluster that the log is of; `None` for an empty one.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// The epochs that the log has begun.
    pub(crate) fn epochs(&self) -> &History {
        &self.epochs
    }

    pub(crate) fn function(&self, name: &str) -> Option<&Arc<Registered>> {
        self.functions.get(name)
    }

    /// The functions in the order of their names, from after `name` on.
    pub(crate) fn functions_after(&self, name: Option<&str>) -> impl Iterator<Item = &Arc<Registered>> {
        let from = name.map_or(Unbounded, Excluded);
        self.functions.range::<str, _>((from, Unbounded)).map(|(_, registered)| registered)
    }

    pub(crate) fn functions(&self) -> impl ExactSizeIterator<Item = &Arc<Registered>> {
        self.functions.values()
    }

    /// Index of the newest command that changed a function or began an epoch: data planes learn changes in this order.
    pub(crate) fn function_index(&self) -> u64 {
        self.function_index
    }

    pub(crate) fn nodes(&self) -> impl ExactSizeIterator<Item = (&NodeName, &RegisteredNode)> {
        self.nodes.iter()
    }

    /// Returns true if there is such a node, with that capacity.
    pub(crate) fn has_node(&self, node: &NodeSpec) -> bool {
        self.nodes.get(&node.name).is_some_and(|known| known.capacity == node.capacity)
    }

    pub(crate) fn data_planes(&self) -> impl ExactSizeIterator<Item = &DataPlaneId> {
        self.data_planes.iter()
    }

    /// Index of the newest command with which a data plane joined or was removed; 0 for none.
    pub(crate) fn data_plane_index(&self) -> u64 {
        self.data_plane_index
    }

    /// Index of the newest command that removed a data plane; 0 for none.
    pub(crate) fn data_plane_removal_index(&self) -> u64 {
        self.data_plane_removal_index
    }

    #[cfg(test)]
    pub(crate) fn without_indexes(self) -> Self {
        Self { function_index: 0, data_plane_index: 0, ..self }
    }
}
