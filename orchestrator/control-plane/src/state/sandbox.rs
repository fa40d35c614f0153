//! Sandboxes as the control plane sees them, from the command that makes one to the report that it is no more.

use std::net::SocketAddr;

use api::wire;
use model::{FunctionId, Resources, Revision, SandboxId};
use policy::placement::NodeKey;
use record::ColdStart;

use super::{Effect, State, WorkerChange, data_plane::DataPlaneKey, timer::SandboxTimer};
use crate::metrics::Phases;

/// Where a sandbox stands. Only the first two count as supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SandboxState {
    /// Commanded, not yet ready.
    Starting,
    /// In service.
    Ready,
    /// Ready, but its node is suspect.
    Suspended,
    /// Found after a restart; some data plane that has not reported yet may hold its slots, so nobody else may.
    Unclaimed,
    /// Leaving service: its data plane gives its slots back.
    Draining,
    /// Its worker was told to end it.
    Terminating,
}

/// The slots of a sandbox, granted to one data plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) data_plane: DataPlaneKey,
    pub(super) slots: u32,
    /// Whether the data plane has said that it knows.
    pub(super) acknowledged: bool,
}

/// One sandbox.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) function: FunctionId,
    pub(super) revision: Revision,
    pub(super) node: NodeKey,
    pub(super) resources: Resources,
    pub(super) concurrency: u32,
    pub(super) state: SandboxState,
    pub(super) address: Option<SocketAddr>,
    /// While it is being made: when that has taken too long, in microseconds.
    pub(super) creation_due_us: u64,
    /// When its creation was commanded, in microseconds; 0 when that was before this control plane.
    pub(super) commanded_us: u64,
    /// While its creation waits for others of its worker: by when it should have begun, in microseconds.
    pub(super) queued_until_us: Option<u64>,
    /// What it waits for meanwhile, if that is not its turn.
    pub(super) queued_for: Option<Box<str>>,
    /// An invocation in it does not end, so that it is to be drained.
    pub(super) retired: bool,
    /// When it became ready, in microseconds; 0 when that was before this control plane.
    pub(super) ready_us: u64,
    /// For how long this process has stood still since then, in microseconds: whatever happened there was not heard of.
    pub(super) missed_us: u64,
    pub(super) grant: Option<Grant>,
    /// Version of the newest delta about it.
    pub(super) version: u64,
    pub(super) timing: Option<Box<Timing>>,
}

/// When each step of a creation happened, in microseconds of the control plane's clock; durations as reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) requested_us: u64,
    pub(crate) decided_us: u64,
    pub(crate) placed_us: u64,
    pub(crate) dispatched_us: Option<u64>,
    pub(crate) ready_us: u64,
    pub(crate) worker_own_us: u64,
    pub(crate) create_us: u64,
    pub(crate) probe_us: u64,
    /// Empty unless creations are recorded.
    pub(crate) steps: Vec<wire::Step>,
    /// When the endpoint went out, and how long it was under way and back beyond the data plane's own time.
    pub(crate) published_us: Option<u64>,
    pub(crate) net_dataplane_us: Option<u64>,
}

impl Timing {
    /// How long each phase took, of those that the creation reached.
    fn phases(&self) -> Phases {
        let became_ready = self.ready_us > 0;
        let reported = |value: u64| became_ready.then_some(value);
        let worker_us = |at: u64| self.ready_us.saturating_sub(at).saturating_sub(self.worker_own_us);
        Phases {
            decide_us: Some(self.decided_us.saturating_sub(self.requested_us)),
            place_us: Some(self.placed_us.saturating_sub(self.decided_us)),
            dispatch_us: self.dispatched_us.map(|at| at.saturating_sub(self.placed_us)),
            create_us: reported(self.create_us),
            ready_us: reported(self.probe_us),
            publish_us: self.published_us.map(|at| at.saturating_sub(self.ready_us)),
            net_worker_us: self.dispatched_us.filter(|_| became_ready).map(worker_us),
            net_dataplane_us: self.net_dataplane_us,
        }
    }
}

impl Sandbox {
    /// Whether it may be granted.
    pub(super) fn is_free(&self) -> bool {
        self.state == SandboxState::Ready && self.grant.is_none()
    }

    /// This process stood still for so long: its creation has so much longer, or it was in service so much shorter, as far
    /// as is known.
    pub(super) fn note_standstill(&mut self, by_us: u64) {
        if self.ready_us > 0 {
            self.missed_us = self.missed_us.saturating_add(by_us);
        }
        self.creation_due_us = self.creation_due_us.saturating_add(by_us);
        self.queued_until_us = self.queued_until_us.map(|until_us| until_us.saturating_add(by_us));
    }

    /// Whether it is drained because an invocation in it does not end.
    pub(super) fn drains_retired(&self) -> bool {
        self.retired && self.state == SandboxState::Draining
    }

    /// Whether a data plane holds its slots.
    pub(super) fn is_granted_to(&self, data_plane: DataPlaneKey) -> bool {
        self.grant.is_some_and(|grant| grant.data_plane == data_plane)
    }

    /// Whether invocations may run in it, as far as is known here.
    pub(super) fn may_be_held(&self) -> bool {
        let leaves_or_unknown =
            matches!(self.state, SandboxState::Unclaimed | SandboxState::Draining | SandboxState::Terminating);
        self.grant.is_some() || leaves_or_unknown
    }
}

impl State {
    /// Changes where a sandbox stands, and its function's counts with it.
    pub(super) fn set_sandbox_state(&mut self, id: SandboxId, state: SandboxState) {
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else { return };
        let before = std::mem::replace(&mut sandbox.state, state);
        if before == SandboxState::Starting {
            self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.cluster.nodes.get_mut(sandbox.node).starting -= 1;
        }
        self.cluster.totals.subtract(before);
        self.cluster.totals.add(state);
        if let Some(function) = self.cluster.functions.get_mut(sandbox.function) {
            function.count(before, state);
            function.note_free(id, sandbox.is_free());
        }
    }

    /// Tells its worker to end a sandbox. It stays known, and its reservation kept, until the worker says it is no more.
    pub(super) fn delete_sandbox(&mut self, id: SandboxId) {
        let Some(sandbox) = self.cluster.sandboxes.get(&id) else { return };
        if sandbox.state == SandboxState::Terminating {
            return;
        }
        let node = sandbox.node;
        self.set_sandbox_state(id, SandboxState::Terminating);
        if let Some(session) = self.cluster.nodes.get(node).session {
            self.effect(Effect::ToWorker { session, change: WorkerChange::Delete(id.to_wire()) });
        }
    }

    /// Forgets a sandbox that is no more: frees its reservation and takes it from the data plane that uses it.
    pub(super) fn forget_sandbox(&mut self, id: SandboxId, outcome: &str) {
        self.withdraw(id);
        self.end_creation(id, outcome);
        let Some(sandbox) = self.cluster.sandboxes.remove(&id) else { return };
        self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
        self.cluster.totals.subtract(sandbox.state);
        if sandbox.state == SandboxState::Starting {
            self.cluster.nodes.get_mut(sandbox.node).starting -= 1;
        }
        self.cluster.nodes.release(sandbox.node, id, sandbox.resources);
        if let Some(function) = self.cluster.functions.get_mut(sandbox.function) {
            function.remove_sandbox(id, sandbox.state);
            let is_over = function.removed && function.sandboxes.is_empty();
            if is_over {
                let due = function.due_us;
                self.timers.reschedule(sandbox.function, due, None);
                self.cluster.functions.forget(sandbox.function);
            }
        }
    }

    /// A creation has ended so, unless it had ended before.
    pub(super) fn end_creation(&mut self, id: SandboxId, outcome: &str) {
        if let Some(timing) = self.cluster.sandboxes.get_mut(&id).and_then(|sandbox| sandbox.timing.take()) {
            self.record_creation(id, &timing, outcome);
        }
    }

    /// Counts how a creation went, once, and writes it down if anybody wants to read it.
    pub(super) fn record_creation(&mut self, id: SandboxId, timing: &Timing, outcome: &str) {
        self.metrics.creation_ended(outcome, timing);
        let Some(sandbox) = self.cluster.sandboxes.get(&id) else { return };
        let Some(function) = self.cluster.functions.get_mut(sandbox.function) else { return };
        if outcome == "failed" {
            function.activity.creations_failed = function.activity.creations_failed.saturating_add(1);
        }
        let phases = timing.phases();
        self.metrics.observed.creation(&phases);
        if !self.settings.records {
            return;
        }
        let row = ColdStart {
            function: function.registered.spec.name.to_string(),
            sandbox: id.to_string(),
            node: self.cluster.nodes.get(sandbox.node).name.to_string(),
            requested_ns: i64::try_from(timing.requested_us.saturating_mul(1000)).unwrap_or(i64::MAX),
            decide_us: phases.decide_us,
            place_us: phases.place_us,
            dispatch_us: phases.dispatch_us,
            create_us: phases.create_us,
            ready_us: phases.ready_us,
            publish_us: phases.publish_us,
            net_worker_us: phases.net_worker_us,
            net_dataplane_us: phases.net_dataplane_us,
            outcome: outcome.to_owned(),
            create_steps: steps_text(&timing.steps),
        };
        self.effect(Effect::Record(Box::new(row)));
    }
}

fn steps_text(steps: &[wire::Step]) -> Option<String> {
    let parts: Vec<_> = steps.iter().map(|step| format!("{}={}", step.name, step.us)).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
