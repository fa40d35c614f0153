//! What an input leads to: effects for the owner task to perform, and functions to decide on before the input is over.
//!
//! Handlers note the functions and decide nothing, so that each changes no more than what its input is about, and a
//! function to which much happens at once is decided on once.

use std::sync::Arc;

use api::wire;
use model::{ClusterId, FunctionId, Registered};
use record::ColdStart;

use super::{
    cluster::{DataPlaneKey, DataPlanes},
    input::{Origin, SessionId},
    reply::Response,
};
use crate::store::Command;

/// One effect. The owner task performs them in order.
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
    /// The newest state of a sandbox, which became ready at that time of the control plane's clock, in microseconds;
    /// `None` when that was before this control plane.
    Endpoint(wire::EndpointDelta, Option<u64>),
    /// The most slots of a function it may hold.
    GrantCap(wire::GrantLimit),
    /// Whether sandboxes of a function can be made.
    Problem(wire::CreationProblem),
}

/// Everything that the input at hand leads to so far.
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

    /// Takes what is to be performed, in order.
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
