//! Messages of workers.

use std::{collections::BTreeSet, sync::Arc};

use model::{NodeName, SandboxId};
use policy::placement::NodeKey;

use super::{
    super::{
        SessionId,
        cluster::{DataPlanes, NodeState, Tables, Worker, Workers},
        context::Context,
        effects::{Effects, WorkerChange},
        recovery::Recovery,
    },
    backoff::Failure,
    node::NodeHandler,
    sandbox::SandboxHandler,
};
use crate::message::{SandboxEvent, SandboxReport, WorkerHello};

/// Handles what workers send.
pub(in crate::state) struct WorkerHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) workers: &'a mut Workers,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recovery: &'a mut Recovery,
    pub(super) unresponsive_together: &'a BTreeSet<NodeKey>,
    pub(super) effects: &'a mut Effects,
}

impl WorkerHandler<'_> {
    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn nodes(&mut self) -> NodeHandler<'_> {
        NodeHandler {
            context: self.context,
            tables: self.tables,
            workers: self.workers,
            data_planes: self.data_planes,
            recovery: self.recovery,
            unresponsive_together: self.unresponsive_together,
            effects: self.effects,
        }
    }

    /// Admits a worker whose nodes are durable.
    pub(in crate::state) fn admit(&mut self, session: SessionId, hello: WorkerHello) {
        let name: Arc<str> = hello.name.as_str().into();
        if let Some((old, _)) = self.workers.by_name(&name) {
            self.effects.close(old, format!("worker {name} connected again"));
            // Before the new session takes its nodes over, or this would detach them again.
            self.nodes().worker_left(old);
        }
        let nodes = hello.nodes.iter().zip(0..);
        let nodes = nodes.filter_map(|(node, index)| self.attach_node(session, &name, &node.name, index));
        let nodes: Vec<NodeKey> = nodes.collect();
        let worker = Worker {
            name,
            instance: hello.instance,
            runtime: hello.runtime.as_str().into(),
            admin: hello.admin,
            nodes: nodes.clone(),
            last_heartbeat_us: self.context.now.us,
        };
        self.workers.attach(session, worker);
        let welcome = self.context.welcome(self.context.settings.heartbeat_port);
        self.effects.send_to_worker(session, WorkerChange::Welcome(welcome));
        self.nodes().recovery().on_worker_reported(session, &nodes, &hello);
        // Only now: the index says that it has received the deletions of what its lost holders held.
        self.send_data_plane_index(&[session]);
        self.effects.touch_room();
    }

    /// Takes a node that a worker announced into service.
    fn attach_node(&mut self, session: SessionId, worker: &Arc<str>, name: &NodeName, index: u32) -> Option<NodeKey> {
        let key = self.tables.nodes.find(&name.0)?;
        self.tables.nodes.attach(key, session, worker, index);
        Some(key)
    }

    /// Tells all workers that a data plane joined or was removed, or that no data plane is awaited any more.
    pub(in crate::state) fn on_data_planes_changed(&mut self) {
        let sessions: Vec<_> = self.workers.iter().map(|(session, _)| session).collect();
        self.send_data_plane_index(&sessions);
    }

    /// Tells workers the index of the newest change of the data planes, after the deletions that followed from it. When they
    /// report again, to a control plane that does not know what they were commanded, it shows whether a data plane may hold
    /// their sandboxes which cannot claim them.
    ///
    /// While data planes are awaited, sandboxes of lost holders are not deleted yet: a worker that knew the index would let
    /// the next control plane grant them.
    fn send_data_plane_index(&mut self, sessions: &[SessionId]) {
        if self.recovery.awaits_data_planes() {
            return self.recovery.withhold_data_plane_index();
        }
        let index = self.context.registry.data_plane_index();
        for session in sessions {
            self.effects.send_to_worker(*session, WorkerChange::DataPlanesChanged(index));
        }
    }

    /// A worker shuts down: nothing is placed there any more, and it is no failure of its sandboxes that they end.
    pub(in crate::state) fn on_shutdown(&mut self, session: SessionId) {
        // Its connection may have been closed since.
        let Some(worker) = self.workers.get(session) else { return };
        tracing::info!(worker = %worker.name, "it shuts down: no new work");
        for key in worker.nodes.clone() {
            self.tables.nodes.set_leaving(key);
        }
    }

    pub(in crate::state) fn on_heartbeat(&mut self, worker: &str, at_us: u64) {
        // Its connection may have been closed since.
        let Some((session, _)) = self.workers.by_name(worker) else { return };
        let Some(worker) = self.workers.get_mut(session) else { return };
        worker.last_heartbeat_us = worker.last_heartbeat_us.max(at_us);
        let is_ready = |key: &NodeKey| self.tables.nodes.get(*key).state() == NodeState::Ready;
        if !worker.nodes.first().is_none_or(is_ready) {
            for key in worker.nodes.clone() {
                self.nodes().mark_ready(key);
            }
            self.effects.touch_room();
        }
    }

    pub(in crate::state) fn on_sandbox_reports(
        &mut self,
        session: SessionId,
        reports: Vec<SandboxReport>,
        read_us: u64,
    ) {
        for SandboxReport { id, event, dispatched_us } in reports {
            // A worker knows nothing of another worker's sandboxes.
            if !self.tables.is_on(id, session) {
                continue;
            }
            match event {
                SandboxEvent::Ready(ready) => self.sandboxes().on_ready_report(id, ready, dispatched_us, read_us),
                SandboxEvent::Progress(progress) => self.sandboxes().on_progress(id, progress),
                SandboxEvent::Failed { message, is_permanent } => {
                    self.sandboxes().on_failure_report(id, Failure { message, is_permanent });
                    self.effects.touch_room();
                }
                SandboxEvent::Ended { reason, message } => {
                    self.sandboxes().on_ended(id, reason, &message);
                    self.effects.touch_room();
                }
            }
        }
    }
}

impl Tables {
    /// Returns true if a sandbox is on a node of the worker of that session.
    fn is_on(&self, id: SandboxId, session: SessionId) -> bool {
        self.sandboxes.get(id).is_some_and(|sandbox| self.nodes.get(sandbox.node()).session() == Some(session))
    }
}
