//! Functions that are registered, changed, and deregistered.

use std::sync::Arc;

use model::{FunctionId, Registered};
use policy::autoscale::Autoscaler;

use super::{
    super::{
        cluster::{DataPlanes, Function, Tables, Unschedulable},
        context::Context,
        effects::{DataPlaneChange, Effects},
    },
    backoff::BackoffHandler,
    sandbox::SandboxHandler,
};

/// Follows the registry's changes of functions.
pub(in crate::state) struct FunctionHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) unschedulable: &'a mut Unschedulable,
    pub(super) effects: &'a mut Effects,
}

impl FunctionHandler<'_> {
    fn backoff(&mut self) -> BackoffHandler<'_> {
        BackoffHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    /// A function is registered.
    pub(in crate::state) fn add(&mut self, registered: Arc<Registered>) {
        let id = registered.id;
        let policy = self.context.settings.autoscale_for(&registered.spec);
        self.tables.functions.insert(Function::registered(registered, policy));
        self.announce(id);
        self.effects.touch(id, self.context.now.us);
    }

    /// A function has another specification.
    pub(in crate::state) fn update(&mut self, registered: Arc<Registered>, needs_new_sandboxes: bool) {
        let id = registered.id;
        let Some(function) = self.tables.functions.known_mut(id) else { return };
        let spec = &registered.spec;
        let policy_changed = function.registered.spec.scale.policy != spec.scale.policy;
        function.autoscaler.retune(&spec.scale, spec.concurrency);
        function.hold_until_us = function.hold_until_us.min(self.context.now.after(spec.scale.stable_window));
        if policy_changed {
            let policy = self.context.settings.autoscale_for(spec);
            function.autoscaler = Autoscaler::new(policy, &spec.scale, spec.concurrency);
        }
        function.registered = registered;
        let was_unfit = function.unfit.is_some();
        function.check();
        // Only if the bound is met now: otherwise waiting invocations would be left to their deadlines.
        let fits_again = was_unfit && function.unfit.is_none();
        if needs_new_sandboxes {
            // Failures of another program do not predict those of this one.
            function.backoff.failures = 0;
            function.backoff.last_error = None;
            function.backoff.not_before_us = 0;
            function.backoff.found_no_room = false;
        }
        self.announce(id);
        if fits_again {
            self.backoff().announce(id, None);
        }
        if needs_new_sandboxes {
            self.backoff().end(id);
            self.drain_other_revisions(id);
        }
        self.effects.touch(id, self.context.now.us);
    }

    /// A function is deregistered: its name is free at once, its sandboxes are drained and ended.
    pub(in crate::state) fn remove(&mut self, id: FunctionId) {
        let index = self.context.registry.function_index();
        let change = || DataPlaneChange::Removed(id, index);
        self.effects.send_to_every_data_plane(self.data_planes, change);
        self.unschedulable.forget(id);
        self.tables.decide_again_at(id, None);
        let Some(function) = self.tables.functions.known_mut(id) else { return };
        function.removed = true;
        // A copy, because draining may remove them from the function's set.
        let sandboxes = function.sandboxes().clone();
        if sandboxes.is_empty() {
            self.tables.remove_function(id);
        }
        for sandbox in sandboxes {
            self.sandboxes().drain(sandbox);
        }
    }

    fn drain_other_revisions(&mut self, id: FunctionId) {
        let Some(function) = self.tables.functions.known(id) else { return };
        let revision = function.registered.revision;
        for sandbox in function.sandboxes().clone() {
            if self.tables.sandboxes.known(sandbox).is_some_and(|sandbox| sandbox.revision != revision) {
                self.sandboxes().drain(sandbox);
            }
        }
    }

    fn announce(&mut self, id: FunctionId) {
        let Some(function) = self.tables.functions.known(id) else { return };
        let (config, index) = (function.config(), self.context.registry.function_index());
        let change = || DataPlaneChange::Function(config.clone(), index);
        self.effects.send_to_every_data_plane(self.data_planes, change);
    }
}
