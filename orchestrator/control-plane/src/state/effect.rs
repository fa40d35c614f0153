//! What the state wants done. One place performs it: the owner task.

use std::sync::Arc;

use api::wire;
use model::{ClusterId, Registered};
use record::ColdStart;

use super::{
    input::{Origin, SessionId},
    reply::Response,
};
use crate::store::Command;

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Tell a worker something.
    ToWorker { session: SessionId, change: WorkerChange },
    /// Tell a data plane something.
    ToDataPlane { session: SessionId, change: DataPlaneChange },
    /// Write a command to the log; the state applies it once it is durable.
    Append { command: Command, origin: Origin },
    /// Respond to an operator.
    Reply(Response),
    /// Write down how a creation went.
    Record(Box<ColdStart>),
    /// End a connection, for the reason given.
    Close { session: SessionId, reason: String },
    /// Refuse a peer whose name, or that of one of its nodes, another process has.
    RefuseName { session: SessionId, reason: String },
    /// Refuse a peer that knows things of another cluster than `ours`, or of another history of it, for the reason given.
    RefuseStranger { session: SessionId, ours: ClusterId, reason: String },
}

/// A change of what a worker should know.
#[derive(Debug)]
pub(crate) enum WorkerChange {
    /// It is accepted, and commands follow.
    Welcome(wire::Welcome),
    /// A sandbox to make, and of what.
    Create(wire::CreateSandbox, Arc<Registered>),
    /// A sandbox to end.
    Delete(u64),
    /// The index of the command with which the newest data plane joined.
    Known(u64),
}

/// A change of what a data plane should know.
#[derive(Debug)]
pub(crate) enum DataPlaneChange {
    /// It is accepted, and a snapshot follows.
    Welcome(wire::Welcome),
    /// A function's newest configuration, with its place in the order of changes.
    Function(Box<wire::FunctionConfig>, u64),
    /// A function that is no more, with its place in the order of changes.
    Removed(u64, u64),
    /// Every function has been named.
    SnapshotEnd(u64),
    /// The newest state of a sandbox, which became ready at that time of the control plane's clock, in microseconds.
    Endpoint(wire::EndpointDelta, u64),
    /// The most slots of a function it may hold.
    GrantCap(wire::GrantLimit),
    /// Whether sandboxes of a function can be made.
    Problem(wire::CreationProblem),
}
