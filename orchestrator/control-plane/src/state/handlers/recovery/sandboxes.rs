//! Reconciliation of sandboxes with the report of a worker that connects.

use std::collections::BTreeSet;

use model::SandboxId;
use policy::placement::NodeKey;

use super::{
    super::super::{
        SessionId,
        cluster::{CreationOutcome, SandboxState},
        effects::WorkerChange,
    },
    RecoveryHandler,
};
use crate::message::{HeldSandbox, HeldState, WorkerHello};

impl RecoveryHandler<'_> {
    /// A worker connects and reports the sandboxes on its nodes.
    pub(in crate::state::handlers) fn on_worker_reported(
        &mut self,
        session: SessionId,
        nodes: &[NodeKey],
        hello: &WorkerHello,
    ) {
        self.note_lost_holders(nodes, hello);
        let held = self.end_unknown(session, hello);
        self.reconcile_sandboxes(session, nodes, &held);
        nodes.iter().for_each(|key| self.tables.nodes.get_mut(*key).has_older = false);
        self.on_nodes_reported(nodes);
        self.finish();
    }

    /// Compares the reported sandboxes with the tables.
    fn reconcile_sandboxes(&mut self, session: SessionId, nodes: &[NodeKey], held: &[HeldSandbox]) {
        let named: BTreeSet<SandboxId> = held.iter().map(|held| held.id).collect();
        let believed = nodes.iter().flat_map(|key| self.tables.nodes.get(*key).sandboxes().iter().copied());
        let lost: Vec<_> = believed.filter(|id| !named.contains(id)).collect();
        for id in lost {
            // It ended while the worker was away, or the command to create it never arrived.
            self.sandboxes().forget_and_touch(id, CreationOutcome::Failed);
        }
        for key in nodes {
            let node = self.tables.nodes.get_mut(*key);
            node.given_up.retain(|id| named.contains(id));
            node.left_behind.retain(|id| named.contains(id));
        }
        for held in held {
            // A worker that names a node which it has not announced is faulty.
            if let Some(node) = nodes.get(held.node).copied() {
                self.reconcile_sandbox(session, nodes, node, held);
            }
        }
    }

    fn reconcile_sandbox(&mut self, session: SessionId, nodes: &[NodeKey], node: NodeKey, held: &HeldSandbox) {
        let id = held.id;
        let Some(sandbox) = self.tables.sandboxes.get(id) else {
            return self.adopt(session, node, held);
        };
        if !nodes.contains(&sandbox.node()) {
            let name = &self.tables.nodes.get(node).name;
            tracing::warn!(sandbox = %id, node = %name, "a worker reports a sandbox of another node");
            return self.effects.send_to_worker(session, WorkerChange::Delete(id));
        }
        match sandbox.state() {
            SandboxState::Terminating => self.effects.send_to_worker(session, WorkerChange::Delete(id)),
            SandboxState::Suspended => self.sandboxes().resume(id),
            SandboxState::Starting | SandboxState::Ready | SandboxState::Unclaimed | SandboxState::Draining => {
                match held.state {
                    HeldState::Ready(address) => self.sandboxes().on_ready(id, address),
                    HeldState::Queued => self.sandboxes().on_creation_found(id, true),
                    HeldState::Creating => self.sandboxes().on_creation_found(id, false),
                }
            }
        }
    }
}
