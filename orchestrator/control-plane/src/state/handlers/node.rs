//! Nodes: ready, suspect, drained, removed.

use std::collections::BTreeSet;

use model::{EndpointState, SandboxId};
use policy::placement::NodeKey;

use super::{
    super::{
        SessionId,
        cluster::{CreationOutcome, DataPlanes, NodeState, Nodes, SandboxState, Tables, Workers},
        context::Context,
        effects::Effects,
        recovery::Recovery,
    },
    recovery::RecoveryHandler,
    sandbox::SandboxHandler,
};

/// Changes the state of nodes, and of the sandboxes on them.
pub(in crate::state) struct NodeHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) workers: &'a mut Workers,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recovery: &'a mut Recovery,
    pub(super) unresponsive_together: &'a BTreeSet<NodeKey>,
    pub(super) effects: &'a mut Effects,
}

impl NodeHandler<'_> {
    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    pub(super) fn recovery(&mut self) -> RecoveryHandler<'_> {
        RecoveryHandler {
            context: self.context,
            tables: self.tables,
            data_planes: self.data_planes,
            recovery: self.recovery,
            effects: self.effects,
        }
    }

    /// A worker's connection ended.
    pub(in crate::state) fn worker_left(&mut self, session: SessionId) {
        // A peer that was never admitted has no nodes.
        let Some(worker) = self.workers.detach(session) else { return };
        for key in worker.nodes {
            self.tables.nodes.detach(key, worker.last_heartbeat_us.min(self.context.now.us));
            // In a common outage connections end too, which proves as little as missed heartbeats; but a worker that
            // announced its shutdown has ended.
            if self.unresponsive_together.is_empty() || self.tables.nodes.get(key).is_leaving() {
                self.mark_suspect(key);
            }
        }
    }

    /// A node gets no new work; invocations that wait for its sandboxes go elsewhere.
    pub(super) fn mark_suspect(&mut self, key: NodeKey) {
        let node = self.tables.nodes.get(key);
        if node.state() != NodeState::Ready {
            return;
        }
        tracing::info!(node = %node.name, "suspect: it misses heartbeats or is disconnected; no new work");
        self.tables.nodes.set_state(key, NodeState::Suspect);
        for id in self.tables.nodes.sandboxes_on(key) {
            match self.tables.sandboxes.state_of(id) {
                Some(SandboxState::Ready) => {
                    self.tables.set_sandbox_state(id, SandboxState::Suspended);
                    self.sandboxes().grants().send_endpoint(id, EndpointState::Suspended);
                }
                // It will not be ready soon, if at all: its demand is served elsewhere.
                Some(SandboxState::Starting) => self.sandboxes().delete(id),
                _ => {}
            }
            self.touch_function_of(id);
        }
    }

    /// A suspect node sent a heartbeat.
    pub(super) fn mark_ready(&mut self, key: NodeKey) {
        tracing::info!(node = %self.tables.nodes.get(key).name, "back");
        self.tables.nodes.set_state(key, NodeState::Ready);
        for id in self.tables.nodes.sandboxes_on(key) {
            self.sandboxes().resume(id);
        }
    }

    /// A node was without a worker for too long: its sandboxes are replaced.
    pub(super) fn mark_dead(&mut self, key: NodeKey) {
        tracing::warn!(node = %self.tables.nodes.get(key).name, "dead: its sandboxes are replaced");
        self.tables.nodes.set_state(key, NodeState::Dead);
        for id in self.tables.nodes.sandboxes_on(key) {
            let may_be_held = self.tables.sandboxes.known(id).is_some_and(|sandbox| sandbox.may_be_held());
            let node = self.tables.nodes.get_mut(key);
            // Its worker may still run, out of reach, and return with what is given up here.
            let kept = if may_be_held { &mut node.given_up } else { &mut node.left_behind };
            kept.insert(id);
            self.sandboxes().forget_and_touch(id, CreationOutcome::Failed);
        }
        // Other nodes of its worker may have room again.
        self.effects.touch_room();
        self.recovery().on_nodes_reported(&[key]);
    }

    /// An operator drained a node, or took it back into service.
    pub(in crate::state) fn set_drained(&mut self, name: &str, drained: bool) {
        // It may have been removed since.
        let Some(key) = self.tables.nodes.find(name) else { return };
        self.tables.nodes.set_drained(key, drained);
        if !drained {
            return self.effects.touch_room();
        }
        for id in self.tables.nodes.sandboxes_on(key) {
            self.sandboxes().drain(id);
            self.touch_function_of(id);
        }
    }

    /// An operator removed a node.
    pub(in crate::state) fn remove(&mut self, name: &str) {
        let Some(key) = self.tables.nodes.find(name) else { return };
        if let Some(session) = self.tables.nodes.get(key).session() {
            // Its worker connected after the request. The log decides: the node is removed, and its worker may announce
            // it again.
            self.effects.close(session, format!("its node {name:?} was removed"));
            self.worker_left(session);
        }
        self.tables.nodes.set_state(key, NodeState::Dead);
        for id in self.tables.nodes.sandboxes_on(key) {
            self.sandboxes().forget_and_touch(id, CreationOutcome::Failed);
        }
        // Other nodes of its worker may have room again.
        self.effects.touch_room();
        for (_, function) in self.tables.functions.iter_mut() {
            function.backoff.avoid.retain(|(avoided, _)| *avoided != key);
        }
        self.tables.nodes.remove(key);
        self.recovery().on_nodes_reported(&[key]);
    }

    fn touch_function_of(&mut self, id: SandboxId) {
        if let Some(sandbox) = self.tables.sandboxes.known(id) {
            self.effects.touch(sandbox.function(), self.context.now.us);
        }
    }
}

impl Nodes {
    /// Sandboxes on a node, in the order of their ids. A copy, because handling them changes the node's set.
    pub(super) fn sandboxes_on(&self, key: NodeKey) -> Vec<SandboxId> {
        self.get(key).sandboxes().iter().copied().collect()
    }
}
