//! The command log: every durable change of the cluster goes through it, and it is acknowledged after the write.
//!
//! One replica writes it to a local file; the log is the same when several replicas agree on it.

mod memory;
mod redb;

use std::{io, pin::Pin};

use model::{DataPlaneId, Epoch, FunctionName, FunctionSpec, NodeName, NodeSpec};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{memory::MemoryStore, redb::RedbStore};

/// A durable change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// A new leadership term begins.
    BeginEpoch {
        /// Which.
        epoch: Epoch,
    },
    /// A function is registered or updated.
    PutFunction {
        /// What was asked for.
        spec: Box<FunctionSpec>,
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

/// Where the command log is kept. One writer uses it at a time.
pub trait Store: Send + 'static {
    /// Every command that still matters, oldest first.
    fn load(&mut self) -> StoreFuture<'_, Vec<Logged>>;

    /// Writes commands with consecutive indexes after every earlier one, and answers with the first index once
    /// all of them are durable.
    fn append(&mut self, commands: Vec<Command>) -> StoreFuture<'_, u64>;
}
