//! The life of a sandbox: its creation succeeds or fails, it is drained, and it ends.

mod progress;

use std::time::Duration;

use model::{EndpointState, SandboxId};

use self::progress::CreationReport;
use super::{
    super::{
        cluster::{CreationOutcome, DataPlanes, Sandbox, SandboxState, SandboxTimer, Tables},
        context::Context,
        effects::{Effects, WorkerChange},
    },
    backoff::BackoffHandler,
    grant::GrantHandler,
};

/// Changes sandboxes, in all tables.
pub(in crate::state) struct SandboxHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) effects: &'a mut Effects,
}

impl<'a> SandboxHandler<'a> {
    pub(super) fn of(
        context: Context<'a>,
        tables: &'a mut Tables,
        data_planes: &'a mut DataPlanes,
        effects: &'a mut Effects,
    ) -> Self {
        Self { context, tables, data_planes, effects }
    }
}

impl SandboxHandler<'_> {
    pub(super) fn grants(&mut self) -> GrantHandler<'_> {
        GrantHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    pub(in crate::state) fn backoff(&mut self) -> BackoffHandler<'_> {
        BackoffHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    /// Commands its worker to end a sandbox. It stays in the tables, and its resources reserved, until the worker
    /// reports its end: its processes use them until then.
    pub(super) fn delete(&mut self, id: SandboxId) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        if sandbox.state() == SandboxState::Terminating {
            return;
        }
        let node = sandbox.node();
        self.tables.set_sandbox_state(id, SandboxState::Terminating);
        // A worker that is away learns it when it connects.
        if let Some(session) = self.tables.nodes.get(node).session() {
            self.effects.send_to_worker(session, WorkerChange::Delete(id));
        }
    }

    /// Removes a sandbox that has ended: tells its holder, and releases its resources.
    pub(super) fn forget(&mut self, id: SandboxId, outcome: CreationOutcome) {
        self.grants().withdraw(id);
        self.end_creation(id, outcome);
        self.tables.remove_sandbox(id);
    }

    /// The same; its function is decided on.
    pub(super) fn forget_and_touch(&mut self, id: SandboxId, outcome: CreationOutcome) {
        if let Some(function) = self.tables.sandboxes.function_of(id) {
            self.forget(id, outcome);
            self.effects.touch(function, self.context.now.us);
        }
    }

    /// Ends the record of a creation, unless it has ended before.
    pub(super) fn end_creation(&mut self, id: SandboxId, outcome: CreationOutcome) {
        if let Some(timing) = self.tables.sandboxes.known_mut(id).and_then(|sandbox| sandbox.timing.take()) {
            let report = CreationReport { id, timing: &timing, outcome };
            report.publish(self.context, self.tables, self.effects);
        }
    }

    /// Takes a sandbox out of service: its holder returns it when its invocations have ended, then the sandbox ends.
    pub(super) fn drain(&mut self, id: SandboxId) {
        self.drain_within(id, self.context.settings.health.drain_deadline);
    }

    /// Takes a sandbox out of service in which an invocation does not end. All invocations that began before end within
    /// the function's time-out. Too many such sandboxes leave less room for others, and none is ended for another.
    pub(super) fn drain_retired(&mut self, id: SandboxId) {
        let Some(sandbox) = self.tables.sandboxes.known_mut(id) else { return };
        sandbox.retired = true;
        if sandbox.state() == SandboxState::Draining {
            // Its holder waits for this message, and may have missed it.
            return self.grants().send_endpoint(id, EndpointState::Draining);
        }
        let function = self.tables.functions.known(sandbox.function());
        let timeout = function.map(|function| function.registered.spec.timeout).unwrap_or_default();
        self.drain_within(id, self.context.settings.health.drain_deadline.saturating_add(timeout));
    }

    fn drain_within(&mut self, id: SandboxId, within: Duration) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        let may_be_held = sandbox.grant().is_some() || sandbox.state() == SandboxState::Unclaimed;
        match sandbox.state() {
            SandboxState::Draining | SandboxState::Terminating => {}
            SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed if may_be_held => {
                self.tables.set_sandbox_state(id, SandboxState::Draining);
                self.grants().send_endpoint(id, EndpointState::Draining);
                self.tables.timers.watch(self.context.now.after(within), id, SandboxTimer::Drain);
            }
            SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Starting => {
                self.delete(id);
            }
        }
    }

    /// A drain exceeded its deadline: the sandbox is ended although invocations still run in it.
    pub(in crate::state) fn on_drain_deadline(&mut self, id: SandboxId) {
        // It may have ended since the timer was set.
        if self.tables.sandboxes.state_of(id) == Some(SandboxState::Draining) {
            tracing::warn!(sandbox = %id, "invocations did not end within the drain deadline; ending their sandbox");
            self.grants().withdraw(id);
            self.delete(id);
        }
    }

    /// A sandbox whose node was suspect is in service again, perhaps in addition to its successor.
    pub(super) fn resume(&mut self, id: SandboxId) {
        let suspended = |sandbox: &&Sandbox| sandbox.state() == SandboxState::Suspended;
        if let Some(function) = self.tables.sandboxes.known(id).filter(suspended).map(|sandbox| sandbox.function()) {
            self.tables.set_sandbox_state(id, SandboxState::Ready);
            self.grants().send_endpoint(id, EndpointState::Active);
            self.effects.touch(function, self.context.now.us);
        }
    }
}
