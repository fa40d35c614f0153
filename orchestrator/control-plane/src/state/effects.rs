//! The outcome of an input: effects for the owner task to perform, and functions to decide on before the input is over.
//!
//! Handlers note the functions and decide nothing, so that each changes no more than its event requires, and a function
//! with several events in one input is decided on once.

use std::{net::SocketAddr, sync::Arc};

use model::{ClusterId, EndpointState, FunctionId, Registered, Revision, SandboxId};
use record::ColdStart;

use super::{
    Term,
    cluster::{DataPlaneKey, DataPlanes},
    input::{Origin, SessionId},
    reply::Response,
};
use crate::store::Command;

/// One effect. The owner task performs them in order.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send a change to a worker.
    ToWorker { session: SessionId, change: WorkerChange },
    /// Send a change to a data plane.
    ToDataPlane { session: SessionId, change: DataPlaneChange },
    /// Write a command to the log; the state applies it once it is durable.
    Append { command: Command, origin: Origin },
    /// Respond to an operator.
    Reply(Response),
    /// Write a row of `coldstarts.csv`.
    Record(Box<ColdStart>),
    /// End a connection, for the reason given.
    Close { session: SessionId, reason: String },
    /// Refuse a peer whose name, or that of one of its nodes, another process has.
    RefuseName { session: SessionId, reason: String },
    /// Refuse a peer whose ids are of another cluster than `ours`, or of another history of it, for the reason given.
    RefuseStranger { session: SessionId, ours: ClusterId, reason: String },
}

/// The first message to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Welcome {
    pub(crate) term: Term,
    /// Port to which a worker may send heartbeats as datagrams.
    pub(crate) heartbeat_port: Option<u16>,
}

/// Content of a message to a worker.
#[derive(Debug)]
pub(crate) enum WorkerChange {
    /// It is admitted, and commands follow.
    Welcome(Welcome),
    /// A sandbox to create, on the node at position `node` of the worker's hello.
    Create { sandbox: SandboxId, node: u32, registered: Arc<Registered> },
    /// A sandbox to end.
    Delete(SandboxId),
    /// The index of the newest command with which a data plane joined or was removed; 0 for none. It is sent after all
    /// commands that were added before it.
    DataPlanesChanged(u64),
}

/// Content of a message to a data plane.
#[derive(Debug)]
pub(crate) enum DataPlaneChange {
    /// It is admitted, and a snapshot follows.
    Welcome(Welcome),
    /// A function's newest configuration, with its place in the order of changes.
    Function(Arc<Registered>, u64),
    /// A function that does not exist any more, with its place in the order of changes.
    Removed(FunctionId, u64),
    /// Every function has been named.
    SnapshotEnd(u64),
    Endpoint(EndpointChange),
    GrantCap(CapChange),
    Problem(ProblemChange),
}

/// The newest state of a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct EndpointChange {
    pub(crate) sandbox: SandboxId,
    pub(crate) function: FunctionId,
    /// Grows with each change of the sandbox.
    pub(crate) version: u64,
    /// `None` if no such sandbox exists.
    pub(crate) endpoint: Option<Endpoint>,
}

/// Address, slots and state of a sandbox, as its data plane needs them.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) revision: Revision,
    pub(crate) address: SocketAddr,
    /// Slots granted to the data plane.
    pub(crate) slots: u32,
    pub(crate) state: EndpointState,
    /// Time at which it became ready, in microseconds of the control plane's clock; `None` if that was before this
    /// control plane.
    pub(crate) ready_us: Option<u64>,
}

/// The most slots of a function that a data plane may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CapChange {
    pub(crate) function: FunctionId,
    pub(crate) version: u64,
    pub(crate) slots: u32,
    /// Only sandboxes that were idle for at least this long are given back.
    pub(crate) min_idle_ms: u64,
    /// Slots are also given back as they become free, until the cap is met.
    pub(crate) drain: bool,
}

/// Beginning or end of a problem that prevents creations of a function.
#[derive(Clone, Debug)]
pub(crate) struct ProblemChange {
    pub(crate) function: FunctionId,
    /// `None` if they can.
    pub(crate) problem: Option<CreationProblem>,
}

/// Reason why sandboxes of a function cannot be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreationProblem {
    pub(crate) message: String,
    /// Invocations that wait are to fail now.
    pub(crate) is_permanent: bool,
}

/// The outcome of the current input so far.
#[derive(Debug, Default)]
pub(super) struct Effects {
    list: Vec<Effect>,
    /// Functions to decide on, each with the time when the cause was read from the network, in microseconds. A function may
    /// be in it several times.
    touched: Vec<(FunctionId, u64)>,
    /// Functions that found no room may find some.
    has_room: bool,
}

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Takes the effects to perform, in order.
    pub(super) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.list)
    }

    pub(super) fn send_to_worker(&mut self, session: SessionId, change: WorkerChange) {
        self.push(Effect::ToWorker { session, change });
    }

    /// Sends to a data plane, if it is connected: one that is not learns the newest state when it connects.
    pub(super) fn send_to_data_plane(&mut self, data_planes: &DataPlanes, key: DataPlaneKey, change: DataPlaneChange) {
        if let Some(session) = data_planes.get(key).and_then(|known| known.session) {
            self.push(Effect::ToDataPlane { session, change });
        }
    }

    pub(super) fn send_to_every_data_plane(&mut self, data_planes: &DataPlanes, change: impl Fn() -> DataPlaneChange) {
        for (_, session, _) in data_planes.connected() {
            self.push(Effect::ToDataPlane { session, change: change() });
        }
    }

    pub(super) fn close(&mut self, session: SessionId, reason: String) {
        self.push(Effect::Close { session, reason });
    }

    pub(super) fn append(&mut self, command: Command, origin: Origin) {
        self.push(Effect::Append { command, origin });
    }

    /// Decides on a function at the end of this input. `read_us` is when the cause was read from the network.
    pub(super) fn touch(&mut self, id: FunctionId, read_us: u64) {
        self.touched.push((id, read_us));
    }

    /// The same for several.
    pub(super) fn touch_all(&mut self, ids: impl IntoIterator<Item = FunctionId>, read_us: u64) {
        self.touched.extend(ids.into_iter().map(|id| (id, read_us)));
    }

    /// Tries functions that found no room again at the end of this input.
    pub(super) fn touch_room(&mut self) {
        self.has_room = true;
    }

    /// Takes the functions to decide on: each once, in a fixed order, with its earliest cause.
    pub(super) fn take_touched(&mut self) -> Vec<(FunctionId, u64)> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup_by_key(|(id, _)| *id);
        touched
    }

    /// Gives back the memory of [`Effects::take_touched`] to be used again.
    pub(super) fn reuse(&mut self, mut touched: Vec<(FunctionId, u64)>) {
        debug_assert!(self.touched.is_empty(), "deciding is no cause for a decision");
        touched.clear();
        self.touched = touched;
    }

    /// Takes the note that there may be room.
    pub(super) fn take_room(&mut self) -> bool {
        std::mem::take(&mut self.has_room)
    }
}
