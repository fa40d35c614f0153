//! One node: its capacity, its sandboxes, and whether it may be used.

use std::{collections::BTreeSet, sync::Arc};

use model::{FunctionId, NodeName, NodeSpec, Resources, SandboxId};

use super::{super::SessionId, data_plane::DataPlaneKey, offer::Service};

/// Health of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::state) enum NodeState {
    /// Its worker is connected and sends heartbeats.
    Ready,
    /// Its worker is unresponsive or disconnected.
    Suspect,
    /// Unresponsive for so long that its sandboxes were given up; or not connected since a restart.
    Dead,
}

/// One node.
#[derive(Debug)]
pub(in crate::state) struct Node {
    pub(in crate::state) name: NodeName,
    pub(super) capacity: Resources,
    pub(super) state: NodeState,
    /// No sandbox may be placed on it, by an operator's order.
    pub(super) drained: bool,
    /// Its worker has announced its shutdown.
    pub(super) leaving: bool,
    pub(super) session: Option<SessionId>,
    /// Its place in its worker's hello.
    pub(super) index: u32,
    pub(super) worker: Arc<str>,
    /// The worker has as many sandboxes as one may have.
    pub(super) is_worker_full: bool,
    /// Time of its worker's last heartbeat, in microseconds; kept up to date only from the moment it is suspect.
    pub(in crate::state) last_heartbeat_us: u64,
    pub(super) sandboxes: BTreeSet<SandboxId>,
    /// Number of them that are starting.
    pub(super) starting: u32,
    /// Time at which a sandbox became ready there last, in microseconds.
    pub(in crate::state) ready_us: Option<u64>,
    /// Time at which the newest of the creations that have become ready there was dispatched, in microseconds.
    pub(in crate::state) newest_ready_us: Option<u64>,
    /// Given up with the node while granted. Their holder may not know, and their invocations may still run, so they
    /// are ended when the node returns and never granted again.
    pub(in crate::state) given_up: BTreeSet<SandboxId>,
    /// Given up with the node while not granted: they may be taken over when it returns.
    pub(in crate::state) left_behind: BTreeSet<SandboxId>,
    /// It is older than this control plane and has not reported since, so it may have sandboxes of older epochs.
    pub(in crate::state) has_older: bool,
    /// A data plane that cannot claim them may hold older sandboxes: the log lost it, or it was removed before the worker had
    /// received the deletions.
    pub(in crate::state) holders_lost: bool,
    /// Functions whose creations failed there since the last success, a few at most.
    pub(super) failed: Vec<FunctionId>,
    /// The data plane that last could not reach a sandbox of it, and until when that counts, in microseconds.
    pub(super) out_of_reach: Option<(DataPlaneKey, u64)>,
}

impl Node {
    /// A node whose worker has not connected.
    pub(super) fn new(spec: &NodeSpec) -> Self {
        Self {
            name: spec.name.clone(),
            capacity: spec.capacity,
            state: NodeState::Dead,
            drained: false,
            leaving: false,
            session: None,
            index: 0,
            worker: "".into(),
            is_worker_full: false,
            last_heartbeat_us: 0,
            ready_us: None,
            newest_ready_us: None,
            sandboxes: BTreeSet::new(),
            given_up: BTreeSet::new(),
            left_behind: BTreeSet::new(),
            starting: 0,
            has_older: false,
            holders_lost: false,
            failed: Vec::new(),
            out_of_reach: None,
        }
    }

    pub(in crate::state) fn capacity(&self) -> Resources {
        self.capacity
    }

    pub(in crate::state) fn state(&self) -> NodeState {
        self.state
    }

    pub(in crate::state) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Returns true if its worker has announced its shutdown.
    pub(in crate::state) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// The connection of its worker.
    pub(in crate::state) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Its position in its worker's hello.
    pub(in crate::state) fn index(&self) -> u32 {
        self.index
    }

    /// The worker that announced it last; empty before the first.
    pub(in crate::state) fn worker(&self) -> &str {
        &self.worker
    }

    /// Its sandboxes in any state, oldest first.
    pub(in crate::state) fn sandboxes(&self) -> &BTreeSet<SandboxId> {
        &self.sandboxes
    }

    /// Number of sandboxes that are starting there.
    pub(in crate::state) fn starting(&self) -> u32 {
        self.starting
    }

    #[cfg(test)]
    pub(super) fn is_in_service(&self) -> bool {
        self.service() == Service::In
    }

    pub(super) fn service(&self) -> Service {
        match self.state {
            NodeState::Dead => Service::Dead,
            NodeState::Suspect => Service::Suspect,
            NodeState::Ready if self.session.is_none() => Service::Suspect,
            NodeState::Ready if self.leaving => Service::Leaving,
            NodeState::Ready if self.drained => Service::Drained,
            NodeState::Ready if self.is_worker_full => Service::WorkerFull,
            NodeState::Ready => Service::In,
        }
    }
}
