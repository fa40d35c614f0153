//! Inputs of the state.

use super::{ChangeOutcome, PutResult, Reply, Request};
use crate::{
    message::{DataPlaneHello, DataPlaneMessage, SandboxReport, WorkerHello},
    store::Command,
};

/// One connection of one peer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// The peer or operator that waits until a command is durable.
#[derive(Debug)]
pub(crate) enum Origin {
    /// None: the command follows from a decision of the state.
    State,
    /// An operator who registers a function.
    Put(Reply<PutResult>),
    /// An operator who changes something else.
    Change(Reply<ChangeOutcome>),
    /// A peer that is admitted then.
    Peer(SessionId),
}

/// One event.
pub(crate) enum Input {
    /// A worker connected.
    WorkerJoined { session: SessionId, hello: Box<WorkerHello> },
    /// A worker shuts down: nothing can be created there any more.
    WorkerLeaves { session: SessionId },
    /// A worker's connection ended.
    WorkerLeft { session: SessionId },
    /// Workers sent heartbeats, at those times in microseconds.
    Heartbeats { received: Vec<(String, u64)> },
    /// A worker reports on sandboxes; `read_us` is when the message was read.
    SandboxReports { session: SessionId, reports: Vec<SandboxReport>, read_us: u64 },
    /// A data plane connected.
    DataPlaneJoined { session: SessionId, hello: Box<DataPlaneHello> },
    /// A data plane's connection ended.
    DataPlaneLeft { session: SessionId },
    /// A data plane's message.
    FromDataPlane { session: SessionId, message: DataPlaneMessage },
    /// A request of an operator.
    Request(Request),
    /// Commands are durable; the first has index `first` in the log.
    Committed { first: u64, commands: Vec<(Command, Origin)> },
    /// Something may be due.
    Time,
}
