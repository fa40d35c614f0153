//! The command log: every durable change of the cluster goes through it, and it is acknowledged after the write.
//!
//! One replica writes it to a local file; the log is the same when several replicas agree on it. It is compacted when
//! it is read, and while it grows: what it then holds is a snapshot, the commands that still matter, and a tail.

mod compaction;
mod memory;
mod redb;

use std::{io, pin::Pin};

use model::{ClusterId, DataPlaneId, Epoch, FunctionName, FunctionSpec, NodeName, NodeSpec, Registered};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::compaction::MAX_EPOCHS;
#[cfg(test)]
pub(crate) use self::compaction::Snapshot;
pub use self::{memory::MemoryStore, redb::RedbStore};

/// A durable change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// The cluster begins: the first command of its log.
    BeginCluster {
        /// Id of the cluster.
        id: ClusterId,
    },
    /// A new leadership term begins.
    BeginEpoch {
        /// Its number, greater than any before.
        epoch: Epoch,
        /// Random number that distinguishes it from an epoch of the same number in another copy of the log. 0 in logs
        /// of programs that drew none.
        #[serde(default)]
        nonce: u64,
    },
    /// A function is registered or updated.
    PutFunction {
        /// The complete new specification.
        spec: Box<FunctionSpec>,
    },
    /// A function as it stood when the log was compacted. It takes the place of the commands that led to it, at the
    /// index of the first of them.
    KeepFunction {
        /// The function with its identity.
        registered: Box<Registered>,
    },
    /// A function is deregistered.
    DeleteFunction {
        /// Name of the function.
        name: FunctionName,
    },
    /// A node joined, or came back with another capacity.
    PutNode {
        /// Name and capacity, as announced by its worker.
        node: NodeSpec,
    },
    /// A node is drained, or taken back into service.
    DrainNode {
        /// Name of the node.
        name: NodeName,
        /// If true, no sandbox may be placed on it.
        drained: bool,
    },
    /// A node left for good.
    RemoveNode {
        /// Name of the node.
        name: NodeName,
    },
    /// A data plane joined. Durable, so that after a restart its grants are awaited before its slots are granted again.
    PutDataPlane {
        /// Its stable id.
        id: DataPlaneId,
    },
    /// A data plane is gone, and its slots were ended.
    RemoveDataPlane {
        /// Its stable id.
        id: DataPlaneId,
    },
}

/// A command and its place in the log. Indexes grow, and have gaps after compaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Its place, from 1.
    pub index: u64,
    /// The change.
    pub command: Command,
}

/// The command log could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file or its database.
    #[error("command log {path}")]
    Database {
        /// Path of the file.
        path: String,
        /// Error of the database.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An entry is not of the expected form.
    #[error("command log {path}, entry {index}: not a command of this version")]
    Entry {
        /// Path of the file.
        path: String,
        /// The entry's place.
        index: u64,
        /// Difference from the expected form.
        source: serde_json::Error,
    },
    /// An entry is of a form that this program does not know.
    #[error(
        "command log {path}, entry {index}: written by a newer program, as version {theirs} of the form of commands; this \
         one knows up to {ours}"
    )]
    Newer {
        /// Path of the file.
        path: String,
        /// The entry's place.
        index: u64,
        /// The version it is of.
        theirs: u32,
        /// The newest known one.
        ours: u32,
    },
    /// The data directory cannot be used.
    #[error("data directory {path}")]
    Directory {
        /// Path of the directory.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// The future of a method of [`Store`], boxed so that the trait can be an object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Progress of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// There was nothing worth doing.
    Nothing,
    /// A step was done; there are more.
    Partly,
    /// The last step was done.
    Wholly,
}

/// Storage of the command log. One writer uses it at a time.
pub trait Store: Send + 'static {
    /// Compacts the log. Returns every command that still matters, oldest first.
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>>;

    /// Writes commands with consecutive indexes after every earlier one. Returns the first index once all of them are
    /// durable. No index is used twice, even after compaction.
    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64>;

    /// Does one step of a compaction, if enough of the log no longer matters to be worth it. A step is short, because
    /// an append may have to wait for it.
    fn compact(&mut self) -> StoreFuture<'_, Compacted>;

    /// Commands in the log.
    fn entries(&self) -> u64;
}
