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
        /// Which.
        id: ClusterId,
    },
    /// A new leadership term begins.
    BeginEpoch {
        /// Which.
        epoch: Epoch,
        /// Drawn at random: tells it from an epoch of the same number that another copy of the log has. 0 in logs of
        /// programs that drew none.
        #[serde(default)]
        nonce: u64,
    },
    /// A function is registered or updated.
    PutFunction {
        /// What was asked for.
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
        /// Which.
        name: FunctionName,
    },
    /// A node joined, or came back with another capacity.
    PutNode {
        /// What its worker announced.
        node: NodeSpec,
    },
    /// Whether sandboxes may be placed on a node.
    DrainNode {
        /// Which.
        name: NodeName,
        /// `true`: none may.
        drained: bool,
    },
    /// A node left for good.
    RemoveNode {
        /// Which.
        name: NodeName,
    },
    /// A data plane joined.
    PutDataPlane {
        /// Which.
        id: DataPlaneId,
    },
    /// A data plane is gone, and its slots were ended.
    RemoveDataPlane {
        /// Which.
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
        /// Where it is.
        path: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An entry is not of the expected form.
    #[error("command log {path}, entry {index}: not a command of this version")]
    Entry {
        /// Where it is.
        path: String,
        /// The entry's place.
        index: u64,
        /// What was expected.
        source: serde_json::Error,
    },
    /// An entry is of a form that this program does not know.
    #[error(
        "command log {path}, entry {index}: written by a newer program, as version {theirs} of the form of commands; this \
         one knows up to {ours}"
    )]
    Newer {
        /// Where it is.
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
        /// Which.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A future handed over a trait object.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// How far a compaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// There was nothing worth doing.
    Nothing,
    /// A step was done; there are more.
    Partly,
    /// The last step was done.
    Wholly,
}

/// Where the command log is kept. One writer uses it at a time.
pub trait Store: Send + 'static {
    /// Compacts the log; then every command that still matters, oldest first.
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>>;

    /// Writes commands with consecutive indexes after every earlier one, and answers with the first index once
    /// all of them are durable. No index is used twice, whatever is compacted away.
    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64>;

    /// Does one step of a compaction, short enough that an append may wait for it, if so much of the log no longer
    /// matters that it is worth it.
    fn compact(&mut self) -> StoreFuture<'_, Compacted>;

    /// Commands in the log.
    fn entries(&self) -> u64;
}
