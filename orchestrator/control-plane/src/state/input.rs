//! Inputs of the state.

use api::wire;

use super::{ChangeOutcome, PutResult, Reply, Request};
use crate::store::Command;

/// One connection of one peer; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// The peer or operator that waits for a command to be durable.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Nobody: the state itself decided it.
    State,
    /// An operator who registers a function.
    Put(Reply<PutResult>),
    /// An operator who changes something else.
    Change(Reply<ChangeOutcome>),
    /// A peer that is admitted then.
    Peer(SessionId),
}

/// An event of a sandbox, with when its creation was handed to the worker's connection.
pub(crate) struct TimedEvent {
    pub(crate) event: wire::SandboxEvent,
    pub(crate) dispatched_us: Option<u64>,
}

/// A data plane's message, with when it was read and when what it acknowledges went out.
pub(crate) struct TimedMessage {
    pub(crate) message: wire::FromDataPlane,
    /// For each acknowledgement, when the delta was handed to the connection.
    pub(crate) published: Vec<Option<u64>>,
    pub(crate) read_us: u64,
}

/// One event.
pub(crate) enum Input {
    /// A worker connected.
    WorkerJoined { session: SessionId, hello: wire::WorkerHello },
    /// A worker shuts down: nothing can be created there any more.
    WorkerLeaves { session: SessionId },
    /// A worker's connection ended.
    WorkerLeft { session: SessionId },
    /// Workers sent heartbeats, at those times in microseconds.
    Heartbeats { received: Vec<(String, u64)> },
    /// A worker reports on sandboxes; `read_us` is when the message was read.
    SandboxEvents { session: SessionId, events: Vec<TimedEvent>, read_us: u64 },
    /// A data plane connected.
    DataPlaneJoined { session: SessionId, hello: wire::DataPlaneHello },
    /// A data plane's connection ended.
    DataPlaneLeft { session: SessionId },
    /// A data plane's message.
    FromDataPlane { session: SessionId, message: TimedMessage },
    /// A request of an operator.
    Request(Request),
    /// Commands are durable; the first has index `first` in the log.
    Committed { first: u64, commands: Vec<(Command, Origin)> },
    /// Something may be due.
    Time,
}
