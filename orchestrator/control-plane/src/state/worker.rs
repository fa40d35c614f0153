//! Workers: which are connected, what they announce, and what they report of sandboxes.

use std::{collections::BTreeSet, sync::Arc};

use api::{
    Revisions,
    wire::{self, sandbox_ended::Reason, sandbox_event::Event},
};
use model::{NodeName, NodeSpec, Resources, Revision, SandboxId};
use policy::placement::NodeKey;

use super::{Effect, Map, Now, SessionId, State, WorkerChange, input::TimedEvent, node::NodeState, sandbox::Standing};
use crate::store::Command;

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    /// Where its operators' pages are.
    pub(super) admin: Arc<str>,
    pub(super) nodes: Vec<NodeKey>,
    /// Revisions it knows.
    revisions: Revisions<()>,
    /// When it last gave a sign of life, in microseconds.
    pub(super) last_beat_us: u64,
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

    pub(super) fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Notes that a worker knows a revision from now on; `true` when it must be told first.
    pub(super) fn learns(&mut self, session: SessionId, revision: Revision) -> bool {
        let Some(worker) = self.by_session.get_mut(&session) else { return false };
        let is_new = worker.revisions.get(revision).is_none();
        if is_new {
            worker.revisions.insert(revision, ());
        }
        is_new
    }
}

impl State {
    pub(super) fn worker_joined(&mut self, now: Now, session: SessionId, hello: wire::WorkerHello) {
        if hello.epoch > self.epoch.0 {
            let reason = format!("it has obeyed epoch {}, this control plane is at {}", hello.epoch, self.epoch);
            return self.effect(Effect::Close { session, reason });
        }
        let name: Arc<str> = hello.worker.as_str().into();
        if let Some(old) = self.workers.by_name.get(&name).copied() {
            self.effect(Effect::Close { session: old, reason: format!("worker {name} connected anew") });
            self.worker_left(now, old);
        }
        let nodes = hello.nodes.iter().zip(0..).map(|(node, index)| self.attach_node(session, &name, node, index));
        let nodes: Vec<NodeKey> = nodes.collect();
        let worker = Worker {
            name: name.clone(),
            admin: hello.admin.as_str().into(),
            nodes: nodes.clone(),
            revisions: Revisions::told(),
            last_beat_us: now.us,
        };
        self.workers.by_name.insert(name, session);
        self.workers.by_session.insert(session, worker);
        let (protocol_version, beat_port) = (api::PROTOCOL_VERSION, self.settings.beat_port.into());
        let welcome = wire::Welcome { protocol_version, epoch: self.epoch.0, beat_port };
        self.effect(Effect::ToWorker { session, change: WorkerChange::Welcome(welcome) });
        self.reconcile_sandboxes(now, session, &nodes, &hello.sandboxes);
        self.recovery.nodes_reported(&nodes);
        self.settle_unclaimed(now);
        self.finish_recovery(now);
        self.feed_starved(now);
    }

    /// Takes a node that a worker announced into service.
    fn attach_node(
        &mut self,
        session: SessionId,
        worker: &Arc<str>,
        announced: &wire::NodeAnnouncement,
        index: u32,
    ) -> NodeKey {
        let name = NodeName(announced.name.as_str().into());
        let capacity = Resources { cpu_millicores: announced.cpu_millicores, memory_mib: announced.memory_mib };
        let spec = NodeSpec { name, capacity };
        let known = self.nodes.find(&spec.name.0).is_some_and(|key| self.nodes.get(key).capacity == capacity);
        if !known {
            // Durable, so that after a restart its sandboxes are waited for before they are replaced.
            self.effect(Effect::Append { command: Command::PutNode { node: spec.clone() }, token: None });
        }
        let key = self.nodes.put(&spec);
        let node = self.nodes.get_mut(key);
        node.session = Some(session);
        node.index = index;
        node.worker = worker.clone();
        node.state = NodeState::Ready;
        node.leaving = false;
        self.nodes.refresh_open(key);
        key
    }

    /// Compares what a worker holds with what is believed, when it (re)connects.
    fn reconcile_sandboxes(&mut self, now: Now, session: SessionId, nodes: &[NodeKey], held: &[wire::HeldSandbox]) {
        let named: BTreeSet<u64> = held.iter().map(|held| held.sandbox).collect();
        let believed = nodes.iter().flat_map(|key| self.nodes.get(*key).sandboxes.iter().copied());
        let lost: Vec<_> = believed.filter(|id| !named.contains(&id.to_wire())).collect();
        for id in lost {
            // Ended while the worker was away, or the command never arrived.
            let function = self.sandboxes.get(&id).map(|sandbox| sandbox.function);
            self.forget_sandbox(id, "failed");
            if let Some(function) = function {
                self.decide(now, function, now.us);
            }
        }
        for key in nodes {
            self.nodes.get_mut(*key).given_up.retain(|id| named.contains(&id.to_wire()));
        }
        for held in held {
            let id = SandboxId::from_wire(held.sandbox);
            let Some(node) = nodes.get(held.node as usize).copied() else { continue };
            match self.sandboxes.get(&id).map(|sandbox| sandbox.standing) {
                None => self.adopt(now, session, node, held),
                Some(Standing::Deleting) => {
                    self.effect(Effect::ToWorker { session, change: WorkerChange::Delete(held.sandbox) });
                }
                Some(Standing::Suspended) => self.resume_sandbox(id),
                Some(Standing::Starting | Standing::Ready | Standing::Unclaimed | Standing::Draining) => {
                    if let Some(address) = api::optional_address(&held.address).ok().flatten() {
                        self.became_ready(now, id, address);
                    }
                }
            }
        }
    }

    /// A worker ends: nothing is placed there any more, and that its sandboxes end is no fault of theirs.
    pub(super) fn worker_leaves(&mut self, session: SessionId) {
        let Some(worker) = self.workers.by_session.get(&session) else { return };
        tracing::info!(worker = %worker.name, "it ends: no new work");
        for key in worker.nodes.clone() {
            self.nodes.get_mut(key).leaving = true;
            self.nodes.refresh_open(key);
        }
    }

    pub(super) fn worker_left(&mut self, now: Now, session: SessionId) {
        let Some(worker) = self.workers.by_session.remove(&session) else { return };
        self.workers.by_name.remove(&worker.name);
        for key in worker.nodes {
            self.nodes.get_mut(key).session = None;
            self.nodes.note_silence(key, worker.last_beat_us.min(now.us));
            self.suspect_node(now, key);
        }
    }

    pub(super) fn worker_beat(&mut self, now: Now, worker: &str, at_us: u64) {
        let Some(session) = self.workers.by_name.get(worker) else { return };
        let Some(worker) = self.workers.by_session.get_mut(session) else { return };
        worker.last_beat_us = worker.last_beat_us.max(at_us);
        let was_suspect = worker.nodes.first().is_some_and(|key| self.nodes.get(*key).state != NodeState::Ready);
        if was_suspect {
            for key in worker.nodes.clone() {
                self.trust_node(now, key);
            }
            self.feed_starved(now);
        }
    }

    pub(super) fn sandbox_events(&mut self, now: Now, session: SessionId, events: Vec<TimedEvent>, read_us: u64) {
        if self.workers.get(session).is_none() {
            return;
        }
        let mut made_room = false;
        for TimedEvent { event, dispatched_us } in events {
            let id = SandboxId::from_wire(event.sandbox);
            match event.event {
                Some(Event::Ready(ready)) => {
                    self.note_timing(id, &ready, dispatched_us, read_us);
                    self.sandbox_ready(now, id, &ready.address);
                }
                Some(Event::Failed(failure)) => {
                    self.creation_failed(now, id, failure);
                    made_room = true;
                }
                Some(Event::Ended(ended)) => {
                    self.sandbox_ended(now, id, &ended);
                    made_room = true;
                }
                None => {}
            }
        }
        if made_room {
            self.feed_starved(now);
        }
    }

    fn note_timing(&mut self, id: SandboxId, ready: &wire::SandboxReady, dispatched_us: Option<u64>, read_us: u64) {
        if let Some(timing) = self.sandboxes.get_mut(&id).and_then(|sandbox| sandbox.timing.as_mut()) {
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
                tracing::error!(sandbox = %id, %error, "a worker reports no usable address");
                self.delete_sandbox(id);
            }
        }
    }

    fn became_ready(&mut self, now: Now, id: SandboxId, address: std::net::SocketAddr) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        sandbox.address = Some(address);
        if sandbox.standing != Standing::Starting {
            return;
        }
        sandbox.ready_us = now.us;
        let (function_id, node) = (sandbox.function, sandbox.node);
        self.set_standing(id, Standing::Ready);
        if let Some(function) = self.functions.get_mut(function_id) {
            function.trouble.failures = 0;
            function.trouble.avoid.retain(|(avoided, _)| *avoided != node);
        }
        self.nodes.creation_succeeded(node);
        self.end_trouble(function_id);
        self.decide(now, function_id, now.us);
    }

    fn sandbox_ended(&mut self, now: Now, id: SandboxId, ended: &wire::SandboxEnded) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        let function_id = sandbox.function;
        let expected = sandbox.standing == Standing::Deleting;
        let by_itself = !expected && ended.reason() != Reason::Stopped;
        if by_itself {
            self.metrics.sandbox_exits.inc();
            tracing::warn!(sandbox = %id, reason = ?ended.reason(), cause = ended.message, "a sandbox ended by itself");
        }
        self.forget_sandbox(id, if expected { "cancelled" } else { "failed" });
        if !expected {
            if by_itself && let Some(function) = self.functions.get_mut(function_id) {
                function.trouble.last_error = Some(format!("sandbox {id} ended by itself: {}", ended.message));
            }
            self.decide(now, function_id, now.us);
        }
    }
}
