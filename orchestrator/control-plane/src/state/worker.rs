//! Workers: which are connected, what they announce, and what they report of sandboxes.

use std::{collections::BTreeSet, sync::Arc};

use api::wire::{self, sandbox_ended::Reason, sandbox_event::Event};
use model::{NodeName, SandboxId};
use policy::placement::NodeKey;

use super::{
    Cluster, Effect, Map, Now, SessionId, State, WorkerChange, input::TimedEvent, join::node_spec, node::NodeState,
    sandbox::SandboxState,
};

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    /// Its process.
    pub(super) instance: u64,
    /// What it makes sandboxes of.
    pub(super) runtime: Arc<str>,
    /// Where its operators' pages are.
    pub(super) admin: Arc<str>,
    pub(super) nodes: Vec<NodeKey>,
    /// When it last sent a heartbeat, in microseconds.
    pub(super) last_heartbeat_us: u64,
}

/// Connected workers.
#[derive(Default)]
pub(super) struct Workers {
    by_session: Map<SessionId, Worker>,
    by_name: Map<Arc<str>, SessionId>,
}

impl Workers {
    pub(super) fn get(&self, session: SessionId) -> Option<&Worker> {
        self.by_session.get(&session)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Worker)> {
        self.by_session.iter().map(|(session, worker)| (*session, worker))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.by_session.values_mut()
    }

    /// The connected worker of that name.
    pub(super) fn by_name(&self, name: &str) -> Option<(SessionId, &Worker)> {
        let session = *self.by_name.get(name)?;
        Some((session, self.get(session)?))
    }

    pub(super) fn len(&self) -> usize {
        self.by_session.len()
    }
}

impl Cluster {
    /// Whether a sandbox is on a node of the worker of that session.
    fn is_on(&self, id: SandboxId, session: SessionId) -> bool {
        self.sandboxes.get(&id).is_some_and(|sandbox| self.nodes.get(sandbox.node).session == Some(session))
    }
}

impl State {
    /// Takes a worker in whose nodes the log knows.
    pub(super) fn admit_worker(&mut self, now: Now, session: SessionId, hello: wire::WorkerHello) {
        let name: Arc<str> = hello.worker.as_str().into();
        if let Some(old) = self.cluster.workers.by_name.get(&name).copied() {
            self.effect(Effect::Close { session: old, reason: format!("worker {name} connected anew") });
            self.worker_left(now, old);
        }
        let nodes = hello.nodes.iter().zip(0..);
        let nodes = nodes.filter_map(|(node, index)| self.attach_node(session, &name, &node_spec(node).name, index));
        let nodes: Vec<NodeKey> = nodes.collect();
        let worker = Worker {
            name: name.clone(),
            instance: hello.instance,
            runtime: hello.runtime.as_str().into(),
            admin: hello.admin.as_str().into(),
            nodes: nodes.clone(),
            last_heartbeat_us: now.us,
        };
        self.cluster.workers.by_name.insert(name, session);
        self.cluster.workers.by_session.insert(session, worker);
        let welcome = self.welcome(self.settings.heartbeat_port);
        self.effect(Effect::ToWorker { session, change: WorkerChange::Welcome(welcome) });
        self.effect(Effect::ToWorker { session, change: WorkerChange::Known(self.registry.data_plane_index()) });
        self.note_lost_holders(&nodes, &hello);
        let held = self.end_unknown(session, &hello);
        self.reconcile_sandboxes(now, session, &nodes, &held);
        nodes.iter().for_each(|key| self.cluster.nodes.get_mut(*key).has_older = false);
        self.recovery.nodes_reported(&nodes);
        self.settle_unclaimed(now);
        self.finish_recovery(now);
        self.touch_room();
    }

    /// Takes a node that a worker announced into service.
    fn attach_node(&mut self, session: SessionId, worker: &Arc<str>, name: &NodeName, index: u32) -> Option<NodeKey> {
        let key = self.cluster.nodes.find(&name.0)?;
        let node = self.cluster.nodes.get_mut(key);
        node.session = Some(session);
        node.index = index;
        node.state = NodeState::Ready;
        node.leaving = false;
        self.cluster.nodes.assign(key, worker);
        self.cluster.nodes.refresh_open(key);
        Some(key)
    }

    /// The first thing that a peer is told, with the port for heartbeats.
    pub(super) fn welcome(&self, heartbeat_port: u16) -> wire::Welcome {
        wire::Welcome {
            protocol_version: api::PROTOCOL_VERSION,
            epoch: self.term.epoch.0,
            heartbeat_port: heartbeat_port.into(),
            cluster: self.term.cluster.to_string(),
            epoch_nonce: self.term.nonce,
        }
    }

    /// Compares what a worker holds with what is believed, when it (re)connects.
    fn reconcile_sandboxes(&mut self, now: Now, session: SessionId, nodes: &[NodeKey], held: &[wire::HeldSandbox]) {
        let named: BTreeSet<u64> = held.iter().map(|held| held.sandbox).collect();
        let believed = nodes.iter().flat_map(|key| self.cluster.nodes.get(*key).sandboxes.iter().copied());
        let lost: Vec<_> = believed.filter(|id| !named.contains(&id.to_wire())).collect();
        for id in lost {
            // Ended while the worker was away, or the command never arrived.
            let function = self.cluster.sandboxes.get(&id).map(|sandbox| sandbox.function);
            self.forget_sandbox(id, "failed");
            if let Some(function) = function {
                self.touch(function, now.us);
            }
        }
        for key in nodes {
            let node = self.cluster.nodes.get_mut(*key);
            node.given_up.retain(|id| named.contains(&id.to_wire()));
            node.left_behind.retain(|id| named.contains(&id.to_wire()));
        }
        for held in held {
            let id = SandboxId::from_wire(held.sandbox);
            let Some(node) = nodes.get(held.node as usize).copied() else { continue };
            let is_elsewhere = self.cluster.sandboxes.get(&id).is_some_and(|sandbox| !nodes.contains(&sandbox.node));
            if is_elsewhere {
                tracing::warn!(sandbox = %id, node = %self.cluster.nodes.get(node).name, "it says it has a sandbox of another node");
                self.effect(Effect::ToWorker { session, change: WorkerChange::Delete(held.sandbox) });
                continue;
            }
            match self.cluster.sandboxes.get(&id).map(|sandbox| sandbox.state) {
                None => self.adopt(now, session, node, held),
                Some(SandboxState::Terminating) => {
                    self.effect(Effect::ToWorker { session, change: WorkerChange::Delete(held.sandbox) });
                }
                Some(SandboxState::Suspended) => self.resume_sandbox(now, id),
                Some(
                    SandboxState::Starting | SandboxState::Ready | SandboxState::Unclaimed | SandboxState::Draining,
                ) => {
                    if let Some(address) = api::optional_address(&held.address).ok().flatten() {
                        self.became_ready(now, id, address);
                    } else {
                        self.creation_found(now, id, held.queued);
                    }
                }
            }
        }
    }

    /// A worker ends: nothing is placed there any more, and that its sandboxes end is no fault of theirs.
    pub(super) fn worker_leaves(&mut self, session: SessionId) {
        let Some(worker) = self.cluster.workers.by_session.get(&session) else { return };
        tracing::info!(worker = %worker.name, "it ends: no new work");
        for key in worker.nodes.clone() {
            self.cluster.nodes.get_mut(key).leaving = true;
            self.cluster.nodes.refresh_open(key);
        }
    }

    pub(super) fn worker_left(&mut self, now: Now, session: SessionId) {
        self.joining.forget(session);
        let Some(worker) = self.cluster.workers.by_session.remove(&session) else { return };
        self.cluster.workers.by_name.remove(&worker.name);
        for key in worker.nodes {
            self.cluster.nodes.get_mut(key).session = None;
            self.cluster.nodes.note_silence(key, worker.last_heartbeat_us.min(now.us));
            self.cluster.nodes.refresh_open(key);
            // Where many are silent their connections end too, and that says as little; who said that it ends has ended.
            if self.silent_together.is_empty() || self.cluster.nodes.get(key).leaving {
                self.mark_suspect(now, key);
            }
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Now, worker: &str, at_us: u64) {
        let Some(session) = self.cluster.workers.by_name.get(worker) else { return };
        let Some(worker) = self.cluster.workers.by_session.get_mut(session) else { return };
        worker.last_heartbeat_us = worker.last_heartbeat_us.max(at_us);
        let was_suspect =
            worker.nodes.first().is_some_and(|key| self.cluster.nodes.get(*key).state != NodeState::Ready);
        if was_suspect {
            for key in worker.nodes.clone() {
                self.mark_ready(now, key);
            }
            self.touch_room();
        }
    }

    pub(super) fn sandbox_events(&mut self, now: Now, session: SessionId, events: Vec<TimedEvent>, read_us: u64) {
        if self.cluster.workers.get(session).is_none() {
            return;
        }
        for TimedEvent { event, dispatched_us } in events {
            let id = SandboxId::from_wire(event.sandbox);
            // Of another worker's sandboxes it knows nothing.
            if !self.cluster.is_on(id, session) {
                continue;
            }
            match event.event {
                Some(Event::Ready(ready)) => {
                    self.note_timing(id, &ready, dispatched_us, read_us);
                    self.sandbox_ready(now, id, &ready.address);
                }
                Some(Event::Progress(progress)) => self.creation_progressed(now, id, progress),
                Some(Event::Failed(failure)) => {
                    self.creation_failed(now, id, failure);
                    self.touch_room();
                }
                Some(Event::Ended(ended)) => {
                    self.sandbox_ended(now, id, &ended);
                    self.touch_room();
                }
                None => {}
            }
        }
    }

    fn note_timing(&mut self, id: SandboxId, ready: &wire::SandboxReady, dispatched_us: Option<u64>, read_us: u64) {
        if let Some(timing) = self.cluster.sandboxes.get_mut(&id).and_then(|sandbox| sandbox.timing.as_mut()) {
            timing.dispatched_us = dispatched_us;
            timing.ready_us = read_us.max(1);
            timing.worker_own_us = ready.own_us;
            timing.create_us = ready.create_us;
            timing.probe_us = ready.ready_us;
            if self.settings.records {
                timing.steps.clone_from(&ready.steps);
            }
        }
    }

    fn sandbox_ready(&mut self, now: Now, id: SandboxId, address: &str) {
        match api::parse_address(address) {
            Ok(address) => self.became_ready(now, id, address),
            Err(error) => {
                tracing::error!(sandbox = %id, cause = %error, "a worker reports no usable address");
                self.give_up_creation(now, id, format!("its worker reports no usable address: {error}"));
            }
        }
    }

    fn became_ready(&mut self, now: Now, id: SandboxId, address: std::net::SocketAddr) {
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else { return };
        sandbox.address = Some(address);
        if sandbox.state != SandboxState::Starting {
            return;
        }
        sandbox.ready_us = now.us;
        let (function_id, commanded_us) = (sandbox.function, sandbox.commanded_us);
        let node = self.cluster.nodes.get_mut(sandbox.node);
        (node.ready_us, node.newest_ready_us) = (now.us, node.newest_ready_us.max(commanded_us));
        self.set_sandbox_state(id, SandboxState::Ready);
        self.note_success(now, id);
        self.touch(function_id, now.us);
    }

    fn sandbox_ended(&mut self, now: Now, id: SandboxId, ended: &wire::SandboxEnded) {
        let Some(sandbox) = self.cluster.sandboxes.get(&id) else { return };
        let function_id = sandbox.function;
        let expected = sandbox.state == SandboxState::Terminating;
        // Its place may have been waited for.
        let was_retired = sandbox.retired;
        let by_itself = !expected && ended.reason() != Reason::Stopped;
        if by_itself {
            self.metrics.sandbox_exits.inc();
            tracing::warn!(sandbox = %id, reason = ?ended.reason(), cause = ended.message, "a sandbox ended by itself");
            self.note_end_of_service(now, id, None, &ended.message);
        }
        self.forget_sandbox(id, if expected { "cancelled" } else { "failed" });
        if !expected || was_retired {
            self.touch(function_id, now.us);
        }
    }
}
