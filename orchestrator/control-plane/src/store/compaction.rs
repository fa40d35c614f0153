//! Compaction: the commands up to some index are replaced by the fewest that lead to the same functions, nodes, data
//! planes and epochs. These are a snapshot, and what comes after that index is the log's tail.
//!
//! A command that still matters stays where it is; what later ones changed is written into it, and they are removed.
//! So the log is equivalent to the whole one wherever compaction stops, and each command is looked at once.

use std::collections::VecDeque;

use model::{DataPlaneId, Epoch, FunctionId, FunctionName, NodeName, NodeSpec, Registered, Revision};
use rustc_hash::FxHashMap;

use super::{Command, StoreError};

/// A log shorter than this is not compacted while it is written: reading it takes no time.
const MIN_ENTRIES: u64 = 10_000;
/// Nor is one with fewer entries than this many times those of its newest snapshot. So a command is, on average, moved
/// less than once, and the log at most this much longer than need be.
const GROWTH: u64 = 4;
/// Epochs that the log remembers, the newest ones: what a peer knows is held against them when it comes back. One that was
/// away for more starts of the control plane than this is taken for a stranger.
pub(crate) const MAX_EPOCHS: usize = 1024;

/// The entries that compaction changes.
pub(crate) trait Entries {
    /// The command at `index`, if there is one.
    fn read(&self, index: u64) -> Result<Option<Command>, StoreError>;
    /// Writes the command at `index`.
    fn write(&mut self, index: u64, command: Command) -> Result<(), StoreError>;
    /// Removes the entry at `index`.
    fn erase(&mut self, index: u64) -> Result<(), StoreError>;
}

/// Places of a node's commands in the log.
#[derive(Clone, Copy)]
struct NodeEntries {
    put: u64,
    drained: Option<u64>,
}

/// The snapshot: where the commands are that still matter, of those taken in so far.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// Everything up to this index is taken in.
    covers: u64,
    /// A command that began the cluster was seen. The first one counts.
    has_cluster: bool,
    /// The newest epochs and where they began, oldest first.
    epochs: VecDeque<(Epoch, u64)>,
    functions: FxHashMap<FunctionName, u64>,
    nodes: FxHashMap<NodeName, NodeEntries>,
    drained_nodes: u64,
    data_planes: FxHashMap<DataPlaneId, u64>,
    /// The newest removal of a data plane: a worker that has not received it may have sandboxes that were held by that one.
    removed_data_plane: Option<u64>,
}

impl Snapshot {
    /// Everything up to this index is taken in.
    pub(super) fn covers(&self) -> u64 {
        self.covers
    }

    /// Takes note that everything up to `index` is taken in, though there may be no entry.
    pub(super) fn cover(&mut self, index: u64) {
        self.covers = self.covers.max(index);
    }

    /// Commands that still matter.
    pub(crate) fn len(&self) -> u64 {
        let count = self.functions.len() + self.nodes.len() + self.data_planes.len() + self.epochs.len();
        let single = u64::from(self.has_cluster) + u64::from(self.removed_data_plane.is_some());
        count as u64 + self.drained_nodes + single
    }

    /// Returns true if a log of so many entries is to be compacted while it is written.
    pub(super) fn is_outgrown(&self, entries: u64) -> bool {
        entries > MIN_ENTRIES.max(GROWTH * self.len())
    }

    /// Takes in the next entry: what it supersedes is erased. Whether it stays; if not, it only changed earlier ones.
    pub(crate) fn take(
        &mut self,
        index: u64,
        command: &Command,
        entries: &mut impl Entries,
    ) -> Result<bool, StoreError> {
        self.covers = index;
        match command {
            Command::BeginCluster { .. } => Ok(!std::mem::replace(&mut self.has_cluster, true)),
            Command::BeginEpoch { epoch, .. } => self.take_epoch(index, *epoch, entries),
            Command::PutFunction { spec } => {
                let Some(&at) = self.functions.get(&spec.name) else {
                    self.functions.insert(spec.name.clone(), index);
                    return Ok(true);
                };
                let mut registered = match entries.read(at)? {
                    Some(Command::KeepFunction { registered }) => registered,
                    Some(Command::PutFunction { spec }) => {
                        Box::new(Registered { id: FunctionId(at), revision: Revision(at), spec: *spec })
                    }
                    // Of another name or kind: not what was noted. Nothing is lost by leaving both.
                    _ => return Ok(true),
                };
                registered.update(spec.as_ref().clone(), Revision(index));
                entries.write(at, keep(registered))?;
                Ok(false)
            }
            Command::KeepFunction { registered } => {
                self.functions.insert(registered.spec.name.clone(), index);
                Ok(true)
            }
            Command::DeleteFunction { name } => erase(self.functions.remove(name), entries),
            Command::PutNode { node } => self.take_node(index, node, entries),
            Command::DrainNode { name, drained } => self.take_drain(index, name, *drained, entries),
            Command::RemoveNode { name } => {
                let node = self.nodes.remove(name);
                let drained = node.and_then(|node| node.drained);
                self.drained_nodes -= u64::from(drained.is_some());
                erase(drained, entries)?;
                erase(node.map(|node| node.put), entries)
            }
            Command::PutDataPlane { id } => {
                let is_new = !self.data_planes.contains_key(id);
                if is_new {
                    self.data_planes.insert(id.clone(), index);
                }
                Ok(is_new)
            }
            Command::RemoveDataPlane { id } => {
                erase(self.data_planes.remove(id), entries)?;
                erase(self.removed_data_plane.replace(index), entries)?;
                Ok(true)
            }
        }
    }

    fn take_epoch(&mut self, index: u64, epoch: Epoch, entries: &mut impl Entries) -> Result<bool, StoreError> {
        if self.epochs.back().is_some_and(|(newest, _)| *newest >= epoch) {
            return Ok(false);
        }
        self.epochs.push_back((epoch, index));
        if self.epochs.len() > MAX_EPOCHS {
            erase(self.epochs.pop_front().map(|(_, at)| at), entries)?;
        }
        Ok(true)
    }

    fn take_node(&mut self, index: u64, node: &NodeSpec, entries: &mut impl Entries) -> Result<bool, StoreError> {
        let Some(known) = self.nodes.get(&node.name) else {
            self.nodes.insert(node.name.clone(), NodeEntries { put: index, drained: None });
            return Ok(true);
        };
        entries.write(known.put, Command::PutNode { node: node.clone() })?;
        Ok(false)
    }

    fn take_drain(
        &mut self,
        index: u64,
        name: &NodeName,
        drained: bool,
        entries: &mut impl Entries,
    ) -> Result<bool, StoreError> {
        match self.nodes.get_mut(name) {
            Some(node) if drained && node.drained.is_none() => {
                node.drained = Some(index);
                self.drained_nodes += 1;
                Ok(true)
            }
            Some(node) if !drained && node.drained.is_some() => {
                self.drained_nodes -= 1;
                erase(node.drained.take(), entries)
            }
            _ => Ok(false),
        }
    }
}

/// The command that leads to a registered function by itself, at the index of its id.
fn keep(registered: Box<Registered>) -> Command {
    if registered.revision.0 == registered.id.0 {
        return Command::PutFunction { spec: Box::new(registered.spec) };
    }
    Command::KeepFunction { registered }
}

/// Erases the entry that a command ended, if there is one; the command itself does not stay either.
fn erase(ended: Option<u64>, entries: &mut impl Entries) -> Result<bool, StoreError> {
    if let Some(index) = ended {
        entries.erase(index)?;
    }
    Ok(false)
}
