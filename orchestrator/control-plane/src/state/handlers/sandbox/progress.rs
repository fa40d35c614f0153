//! Progress of a creation: queued, begun, ready, failed, or given up.

use std::net::SocketAddr;

use model::SandboxId;
use record::ColdStart;

use super::{
    super::{
        super::{
            cluster::{CreationOutcome, SandboxState, Tables, Timing},
            context::Context,
            effects::{Effect, Effects},
        },
        backoff::{Failure, Source},
    },
    SandboxHandler,
};
use crate::message::{CreationProgress, EndReason, SandboxReady, Step};

/// Result of a creation that has ended, for metrics and records.
pub(super) struct CreationReport<'a> {
    pub(super) id: SandboxId,
    pub(super) timing: &'a Timing,
    pub(super) outcome: CreationOutcome,
}

impl SandboxHandler<'_> {
    /// A creation is queued behind others of its worker, or begins: its time counts from then.
    pub(in crate::state::handlers) fn on_progress(&mut self, id: SandboxId, progress: CreationProgress) {
        if self.tables.sandboxes.state_of(id) != Some(SandboxState::Starting) {
            return;
        }
        let due_us = self.context.now.after(self.context.settings.health.creation_deadline);
        let is_queued = matches!(progress, CreationProgress::Queued { .. });
        self.tables.set_creation_due(id, due_us, is_queued);
        if let Some(sandbox) = self.tables.sandboxes.known_mut(id) {
            sandbox.queued_for = match progress {
                CreationProgress::Queued { cause } => cause.map(String::into),
                CreationProgress::Begun => None,
            };
        }
    }

    /// A worker that connects reports which creations are queued: an earlier message about that may have been lost.
    pub(in crate::state::handlers) fn on_creation_found(&mut self, id: SandboxId, is_queued: bool) {
        let believed = self.tables.sandboxes.known(id).map(|sandbox| sandbox.queued_until_us.is_some());
        if believed.is_some_and(|believed| believed != is_queued) {
            let queued = CreationProgress::Queued { cause: None };
            self.on_progress(id, if is_queued { queued } else { CreationProgress::Begun });
        }
    }

    /// A worker reports that a sandbox is ready.
    pub(in crate::state::handlers) fn on_ready_report(
        &mut self,
        id: SandboxId,
        ready: SandboxReady,
        dispatched_us: Option<u64>,
        read_us: u64,
    ) {
        if let Some(timing) = self.tables.sandboxes.known_mut(id).and_then(|sandbox| sandbox.timing.as_mut()) {
            timing.dispatched_us = dispatched_us;
            timing.ready_us = Some(read_us);
            timing.worker_own_us = ready.own_us;
            timing.create_us = ready.create_us;
            timing.probe_us = ready.probe_us;
            if self.context.settings.records {
                timing.steps = ready.steps;
            }
        }
        match ready.address {
            Ok(address) => self.on_ready(id, address),
            Err(error) => {
                tracing::error!(sandbox = %id, cause = %error, "a worker reports no usable address");
                self.give_up_creation(id, format!("its worker reports no usable address: {error}"));
            }
        }
    }

    /// A sandbox is ready at an address.
    pub(in crate::state::handlers) fn on_ready(&mut self, id: SandboxId, address: SocketAddr) {
        let now_us = self.context.now.us;
        let Some(sandbox) = self.tables.sandboxes.known_mut(id) else { return };
        sandbox.address = Some(address);
        if sandbox.state() != SandboxState::Starting {
            return;
        }
        sandbox.ready_us = Some(now_us);
        let (function, commanded_us) = (sandbox.function(), sandbox.commanded_us);
        let node = self.tables.nodes.get_mut(sandbox.node());
        (node.ready_us, node.newest_ready_us) = (Some(now_us), node.newest_ready_us.max(commanded_us));
        self.tables.set_sandbox_state(id, SandboxState::Ready);
        self.backoff().on_ready(id);
        self.effects.touch(function, now_us);
    }

    /// A worker reports that a creation failed.
    pub(in crate::state::handlers) fn on_failure_report(&mut self, id: SandboxId, failure: Failure) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        let (function, node, was_starting) =
            (sandbox.function(), sandbox.node(), sandbox.state() == SandboxState::Starting);
        if !was_starting {
            tracing::warn!(sandbox = %id, cause = failure.message, "a worker reports a failed creation for a sandbox in service");
            self.backoff().on_end_of_service(id, Source::Worker, &failure.message);
        }
        self.forget(id, CreationOutcome::Failed);
        if was_starting {
            tracing::warn!(sandbox = %id, cause = failure.message, "a creation failed");
            self.backoff().on_creation_failed(function, node, failure);
        }
        // A successor of a sandbox in service is needed too, though only a faulty worker reports that.
        self.effects.touch(function, self.context.now.us);
    }

    /// Ends a creation whose worker has not reported a failure. A sandbox that was ready only ends.
    pub(in crate::state::handlers) fn give_up_creation(&mut self, id: SandboxId, message: String) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        let (function, node, was_starting) =
            (sandbox.function(), sandbox.node(), sandbox.state() == SandboxState::Starting);
        self.effects.touch(function, self.context.now.us);
        if !was_starting {
            self.backoff().on_end_of_service(id, Source::Worker, &message);
            return self.delete(id);
        }
        tracing::warn!(sandbox = %id, node = %self.tables.nodes.get(node).name, cause = message, "a creation failed");
        self.end_creation(id, CreationOutcome::Failed);
        self.delete(id);
        self.backoff().on_creation_failed(function, node, Failure::temporary(message));
    }

    /// A worker reports that a sandbox has ended.
    pub(in crate::state::handlers) fn on_ended(&mut self, id: SandboxId, reason: EndReason, message: &str) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        let function = sandbox.function();
        let is_expected = sandbox.state() == SandboxState::Terminating;
        // A creation may wait for its place.
        let was_retired = sandbox.retired;
        if !is_expected && reason != EndReason::Stopped {
            self.context.metrics.sandbox_exits.inc();
            tracing::warn!(sandbox = %id, ?reason, cause = message, "a sandbox ended by itself");
            self.backoff().on_end_of_service(id, Source::Worker, message);
        }
        self.forget(id, if is_expected { CreationOutcome::Cancelled } else { CreationOutcome::Failed });
        if !is_expected || was_retired {
            self.effects.touch(function, self.context.now.us);
        }
    }
}

impl CreationReport<'_> {
    /// Counts the creation, and records it if the settings require it.
    pub(super) fn publish(&self, context: Context<'_>, tables: &mut Tables, effects: &mut Effects) {
        let Self { id, timing, outcome } = self;
        context.metrics.creation_ended(*outcome, timing);
        let Some(sandbox) = tables.sandboxes.known(*id) else { return };
        let Some(function) = tables.functions.known_mut(sandbox.function()) else { return };
        if *outcome == CreationOutcome::Failed {
            function.activity.creations_failed = function.activity.creations_failed.saturating_add(1);
        }
        let phases = timing.phases();
        context.metrics.observed.creation(&phases);
        if !context.settings.records {
            return;
        }
        let row = ColdStart {
            function: function.registered.spec.name.to_string(),
            sandbox: id.to_string(),
            node: tables.nodes.get(sandbox.node()).name.to_string(),
            requested_ns: i64::try_from(timing.requested_us.saturating_mul(1000)).unwrap_or(i64::MAX),
            decide_us: phases.decide_us,
            place_us: phases.place_us,
            dispatch_us: phases.dispatch_us,
            create_us: phases.create_us,
            ready_us: phases.ready_us,
            publish_us: phases.publish_us,
            net_worker_us: phases.net_worker_us,
            net_dataplane_us: phases.net_dataplane_us,
            outcome: *outcome,
            create_steps: steps_text(&timing.steps),
        };
        effects.push(Effect::Record(Box::new(row)));
    }
}

fn steps_text(steps: &[Step]) -> Option<String> {
    let parts: Vec<_> = steps.iter().map(|step| format!("{}={}", step.name, step.us)).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}
