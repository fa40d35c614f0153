//! State and decisions of the control plane: one plain value with one owner.
//!
//! Each input is handled synchronously and results in a list of effects. Nothing here waits, does I/O, or reads a
//! clock, so every decision can be tested without a network.
//!
//! [`registry`](crate::registry) is the durable part. [`cluster`] has the tables of the objects that are believed to
//! exist, [`handlers`] change them, one kind of event each, and [`views`] show them to operators.

mod cluster;
mod context;
mod effects;
mod handlers;
mod input;
mod recovery;
mod reply;
mod views;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use model::{ClusterId, Epoch, FunctionSpec};
use policy::{
    autoscale,
    placement::{self, NodeKey},
};
use rustc_hash::FxBuildHasher;

#[cfg(test)]
pub(crate) use self::effects::{CreationProblem, Endpoint};
use self::{
    cluster::{Cluster, SandboxTimer},
    context::Context,
    effects::Effects,
    handlers::{Admitted, Joining, Overdue, Replies, Scaler, Waiting},
    recovery::Recovery,
};
pub(crate) use self::{
    cluster::{CreationOutcome, Timing},
    effects::{CapChange, DataPlaneChange, Effect, EndpointChange, ProblemChange, Welcome, WorkerChange},
    handlers::{Acknowledgement, ChangeOutcome, ImageRefused, PutOutcome, PutResult, Registration, Request},
    input::{Input, Origin, SessionId},
    reply::Reply,
    views::{ClusterView, FunctionView, NodeView, TopView},
};
use crate::{
    config::Health,
    metrics::Metrics,
    now::Now,
    registry::{Change, Registry},
    store::Command,
};

/// A map with a fixed hash function, so that a seed replays a run exactly. Its keys are ids and names that operators
/// choose, never clients.
pub(crate) type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// Settings that do not change while the control plane runs.
pub(crate) struct Settings {
    pub(crate) autoscale: &'static autoscale::Policy,
    pub(crate) placement: &'static placement::Policy,
    pub(crate) health: Health,
    /// The port where workers may send heartbeats as datagrams, if there is one.
    pub(crate) heartbeat_port: Option<u16>,
    /// Creations are recorded with their steps.
    pub(crate) records: bool,
}

/// The identity of this control plane, which begins the handshake with every peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: Epoch,
    /// Distinguishes the epoch from those of the same number in other copies of the log.
    pub(crate) nonce: u64,
}

/// The control plane's state.
pub(crate) struct State {
    settings: Settings,
    term: Term,
    metrics: Arc<Metrics>,
    registry: Registry,
    cluster: Cluster,
    scaler: Scaler,
    recovery: Recovery,
    /// Peers that are not admitted yet.
    joining: Joining,
    /// Creations that are queued for longer than one may take.
    overdue: Overdue,
    /// Nodes that became unresponsive at about the same time, and so many that the cause is likely to be here.
    unresponsive_together: BTreeSet<NodeKey>,
    /// Operators whose response waits until data planes have acknowledged their change.
    replies: Replies,
    effects: Effects,
}

impl Settings {
    /// The policy that scales a function; registration refuses unknown names.
    fn autoscale_for(&self, spec: &FunctionSpec) -> &'static autoscale::Policy {
        spec.scale.policy.as_deref().and_then(autoscale::find).unwrap_or(self.autoscale)
    }

    /// The policy that places sandboxes of a function; registration refuses unknown names.
    fn placement_for(&self, spec: &FunctionSpec) -> &'static placement::Policy {
        spec.placement.as_deref().and_then(placement::find).unwrap_or(self.placement)
    }
}

impl State {
    pub(crate) fn new(settings: Settings, term: Term, seed: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            term,
            metrics,
            registry: Registry::default(),
            cluster: Cluster::default(),
            scaler: Scaler::new(seed, term.epoch),
            recovery: Recovery::default(),
            joining: Joining::default(),
            overdue: Overdue::default(),
            unresponsive_together: BTreeSet::new(),
            replies: Replies::default(),
            effects: Effects::default(),
        }
    }

    /// Takes over the durable state, including the start of this epoch.
    pub(crate) fn load(&mut self, registry: Registry) {
        self.cluster.load(&registry, &self.settings);
        self.registry = registry;
    }

    /// Begins to accept peers, and waits for those that know the state that is not durable. Called when peers can
    /// connect: the recovery window must not include the time before, in which none could report.
    pub(crate) fn recover(&mut self, now: Now) {
        self.recovery_handler(now).begin();
        // All of it is postponed.
        self.decide_touched(now);
        self.recovery_handler(now).finish();
        self.decide_touched(now);
    }

    /// Handles one input; the effects are left for [`State::take_effects`].
    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        self.note_clock_jump(now);
        self.dispatch(now, input);
        self.replies.release(now, &self.cluster.data_planes, &mut self.effects);
        self.send_withheld_data_plane_index(now);
        // Functions that found no room get the room that this input made, before functions whose timers happen to be
        // due are decided on.
        self.decide_touched(now);
        self.run_timers(now);
        self.send_withheld_data_plane_index(now);
        self.decide_touched(now);
    }

    /// The last awaited data plane may have reported or been removed: sandboxes of lost holders are deleted by now, and
    /// nothing is granted yet.
    fn send_withheld_data_plane_index(&mut self, now: Now) {
        if self.recovery.take_withheld_data_plane_index() {
            self.worker_handler(now).on_data_planes_changed();
        }
    }

    /// Takes the effects to perform, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        self.effects.take()
    }

    /// Time of the next [`Input::Time`], in microseconds.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        let timers = self.cluster.tables.timers.next_due_us();
        let health = self.cluster.watches_health().then(|| self.cluster.tables.timers.health_us());
        let due = [timers, health, self.replies.due_us(), self.recovery.due_us(), self.overdue.due_us()];
        due.into_iter().flatten().min()
    }

    #[cfg(test)]
    fn assert_consistent(&self) {
        self.cluster.assert_consistent();
        for (id, sandbox) in self
            .cluster
            .tables
            .sandboxes
            .iter()
            .filter(|(_, sandbox)| sandbox.state() == cluster::SandboxState::Starting)
        {
            let is_watched = self.cluster.watches_creation(id) || self.overdue.contains(id);
            assert!(is_watched, "somebody looks at the creation of {id} again, queued or not: {sandbox:?}");
        }
    }

    fn dispatch(&mut self, now: Now, input: Input) {
        match input {
            Input::WorkerJoined { session, hello } => {
                let admitted = self.join_handler(now).worker_joined(session, *hello);
                self.admit(now, admitted);
            }
            Input::DataPlaneJoined { session, hello } => {
                let admitted = self.join_handler(now).data_plane_joined(session, *hello);
                self.admit(now, admitted);
            }
            Input::WorkerLeaves { session } => self.worker_handler(now).on_shutdown(session),
            Input::WorkerLeft { session } => {
                self.joining.forget(session);
                self.node_handler(now).worker_left(session);
            }
            Input::DataPlaneLeft { session } => {
                self.joining.forget(session);
                self.data_plane_handler(now).on_disconnect(session);
            }
            Input::Heartbeats { received } => {
                let mut workers = self.worker_handler(now);
                received.iter().for_each(|(worker, at_us)| workers.on_heartbeat(worker, *at_us));
            }
            Input::SandboxReports { session, reports, read_us } => {
                self.worker_handler(now).on_sandbox_reports(session, reports, read_us);
            }
            Input::FromDataPlane { session, message } => {
                self.data_plane_handler(now).on_message(session, &message);
            }
            Input::Request(request) => self.operator_handler(now).on_request(request),
            Input::Committed { first, commands } => self.on_committed(now, first, commands),
            Input::Time => {}
        }
    }

    /// Commands are durable: the registry applies each, the tables follow, and the operator or peer that waits for it
    /// proceeds.
    fn on_committed(&mut self, now: Now, first: u64, commands: Vec<(Command, Origin)>) {
        for ((command, origin), index) in commands.into_iter().zip(first..) {
            let change = self.registry.apply(index, command);
            let (put, changed) = (PutOutcome::of(&change), ChangeOutcome::of(&change));
            self.follow(now, change);
            let sequence = self.registry.function_index();
            match origin {
                Origin::State => {}
                Origin::Put(reply) => self.replies.add(now, sequence, Waiting::Put(reply, put)),
                Origin::Change(reply) => self.replies.add(now, sequence, Waiting::Change(reply, changed)),
                Origin::Peer(session) => {
                    let admitted = self.join_handler(now).on_command_applied(session);
                    self.admit(now, admitted);
                }
            }
            // Before a data plane is admitted by the next command: this response does not wait for that one.
            self.replies.release(now, &self.cluster.data_planes, &mut self.effects);
        }
    }

    /// Brings the tables in line with a change of the registry.
    fn follow(&mut self, now: Now, change: Change) {
        match change {
            Change::Begun | Change::FunctionUnchanged | Change::NotFound => {}
            Change::FunctionAdded(registered) => self.function_handler(now).add(registered),
            Change::FunctionUpdated { registered, needs_new_sandboxes } => {
                self.function_handler(now).update(registered, needs_new_sandboxes);
            }
            Change::FunctionRemoved(id) => self.function_handler(now).remove(id),
            Change::NodePut(node) => {
                self.cluster.tables.nodes.put(&node);
            }
            Change::NodeDrained { name, drained } => self.node_handler(now).set_drained(&name.0, drained),
            Change::NodeRemoved(name) => self.node_handler(now).remove(&name.0),
            Change::DataPlanePut(id) => {
                self.cluster.data_planes.put(&id, now.us);
                self.worker_handler(now).on_data_planes_changed();
            }
            Change::DataPlaneRemoved(id) => {
                self.data_plane_handler(now).remove(&id);
                self.worker_handler(now).on_data_planes_changed();
            }
        }
    }

    fn admit(&mut self, now: Now, admitted: Option<Admitted>) {
        match admitted {
            Some(Admitted::Worker(session, hello)) => self.worker_handler(now).admit(session, hello),
            Some(Admitted::DataPlane(session, hello)) => self.data_plane_handler(now).admit(session, hello),
            None => {}
        }
    }

    /// Decides on the functions that the input concerns, then on those that found no room, if there may be some now.
    fn decide_touched(&mut self, now: Now) {
        // Once for each function: a decision may go through all of its sandboxes, so one after each sandbox of a failed
        // worker would cost the square of their number.
        let touched = self.effects.take_touched();
        for (id, read_us) in &touched {
            self.scaling_handler(now).decide(*id, *read_us);
        }
        if self.effects.take_room() {
            self.scaling_handler(now).retry_unschedulable();
        }
        self.effects.reuse(touched);
    }

    fn run_timers(&mut self, now: Now) {
        self.recovery_handler(now).finish();
        while let Some(id) = self.cluster.tables.pop_due_function(now.us) {
            self.effects.touch(id, now.us);
        }
        while let Some((id, timer)) = self.cluster.tables.timers.pop_due_sandbox(now.us) {
            match timer {
                SandboxTimer::Creation => self.overdue_handler(now).on_creation_deadline(id),
                SandboxTimer::Proof => self.sandbox_handler(now).backoff().on_proven(id),
                SandboxTimer::Drain => self.sandbox_handler(now).on_drain_deadline(id),
            }
        }
        if self.overdue.due_us().is_some_and(|due| due <= now.us) {
            self.overdue_handler(now).check();
        }
        // Without peers there is nothing to check, and an idle control plane does not wake.
        if self.cluster.watches_health() && self.cluster.tables.timers.health_us() <= now.us {
            self.cluster.tables.timers.restart_health(now);
            self.health_handler(now).check();
        }
    }

    /// Before any conclusion from the time: if this process was stopped, all timers and measured times are moved by
    /// that time. Otherwise every peer would seem to have missed its heartbeats.
    fn note_clock_jump(&mut self, now: Now) {
        let Some(late_us) = self.cluster.clock_jump_us(now.us) else { return };
        tracing::warn!(late_us, "this process was stopped: all timers are moved by that time");
        self.cluster.postpone(now, late_us);
        self.replies.postpone(late_us);
        self.recovery.postpone(late_us);
    }
}
