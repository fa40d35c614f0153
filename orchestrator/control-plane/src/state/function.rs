//! Functions: their specification, demand, supply, and what went wrong with them.

use std::{collections::BTreeSet, sync::Arc};

use api::wire;
use model::{FunctionId, FunctionSpec, Registered, SandboxId, duration::LONGEST};
use policy::{
    autoscale::{Autoscaler, Demand, Policy, Supply},
    balance,
    placement::{self, NodeKey},
};

use super::{
    DataPlaneChange, Map, Now, State,
    activity::Activity,
    data_plane::{DataPlaneKey, FunctionLoad},
    sandbox::SandboxState,
};

/// Creations of a function that failed lately.
#[derive(Debug, Default)]
pub(super) struct CreationBackoff {
    /// Failures since a sandbox was made that lasted, or was of use until it was given up.
    pub(super) failures: u32,
    /// When the newest sandbox was commanded, in microseconds.
    pub(super) made_us: u64,
    /// When one failed last, in microseconds.
    pub(super) failed_us: u64,
    /// No attempt before this time, in microseconds.
    pub(super) not_before_us: u64,
    /// The newest failure, in words.
    pub(super) last_error: Option<String>,
    /// Since the newest sandbox was commanded, another one found no room: that is newer than any failure.
    pub(super) found_no_room: bool,
    /// Another attempt cannot succeed, as far as the worker can tell.
    pub(super) permanent: bool,
    /// Nodes that failed it, newest last, and until when each is avoided, in microseconds.
    pub(super) avoid: Vec<(NodeKey, u64)>,
    /// Data planes were told.
    pub(super) announced: bool,
}

/// One registered function.
pub(super) struct Function {
    /// Shared with commands that are under way.
    pub(super) registered: Arc<Registered>,
    pub(super) autoscaler: Autoscaler,
    pub(super) sandboxes: BTreeSet<SandboxId>,
    /// Ready sandboxes that are granted to nobody.
    pub(super) free: BTreeSet<SandboxId>,
    pub(super) ready: u32,
    pub(super) starting: u32,
    /// Demand, and slots held, by data plane.
    pub(super) loads: Vec<(DataPlaneKey, FunctionLoad)>,
    pub(super) desired: u32,
    pub(super) backoff: CreationBackoff,
    pub(super) activity: Activity,
    /// When it is next decided on without an event.
    pub(super) due_us: Option<u64>,
    /// Not scaled down before this time: after a restart, one stable window.
    pub(super) hold_until_us: u64,
    /// Deregistered; kept until its last sandbox is no more.
    pub(super) removed: bool,
    /// Why no sandbox of it is made: the log has it from before there was a bound that its specification exceeds.
    pub(super) unfit: Option<String>,
}

/// All functions by id: those of the registry, and removed ones until their last sandbox has ended.
#[derive(Default)]
pub(super) struct Functions(Map<FunctionId, Box<Function>>);

impl Functions {
    pub(super) fn get(&self, id: FunctionId) -> Option<&Function> {
        self.0.get(&id).map(AsRef::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        self.0.get_mut(&id).map(AsMut::as_mut)
    }

    /// Every function, also those being removed, in no useful order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (FunctionId, &mut Function)> {
        self.0.iter_mut().map(|(id, function)| (*id, function.as_mut()))
    }

    pub(super) fn insert(&mut self, function: Function) {
        self.0.insert(function.registered.id, Box::new(function));
    }

    pub(super) fn forget(&mut self, id: FunctionId) {
        self.0.remove(&id);
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Function> {
        self.0.values().map(AsRef::as_ref)
    }
}

impl Function {
    pub(super) fn new(registered: Arc<Registered>, policy: &Policy) -> Self {
        Self {
            autoscaler: Autoscaler::new(policy, &registered.spec.scale, registered.spec.concurrency),
            registered,
            sandboxes: BTreeSet::new(),
            free: BTreeSet::new(),
            ready: 0,
            starting: 0,
            loads: Vec::new(),
            desired: 0,
            backoff: CreationBackoff::default(),
            activity: Activity::default(),
            due_us: None,
            hold_until_us: 0,
            removed: false,
            unfit: None,
        }
    }

    /// Checks the size of the specification: what is in the log may be older than the bound. What was taken then and only
    /// would not be registered now goes on to work.
    fn check(&mut self) {
        let spec = &self.registered.spec;
        self.unfit = spec.check_size().err().map(|error| {
            tracing::warn!(function = %spec.name, %error, "no sandbox of it is made until it is registered again");
            format!("{error}: register the function again, it was before there was this bound")
        });
    }

    /// What data planes know of it. Of a specification that exceeds a bound they get what is within it: a message stays as
    /// small, and a time as short, as they expect, and its sandboxes that there are serve as before.
    pub(super) fn config(&self) -> wire::FunctionConfig {
        let Registered { id, revision, spec } = self.registered.as_ref();
        if self.unfit.is_none() {
            return api::function_config(&self.registered);
        }
        let mut bounded = FunctionSpec {
            protocol: spec.protocol,
            concurrency: spec.concurrency,
            retry: spec.retry,
            timeout: spec.timeout.min(LONGEST),
            queue: spec.queue,
            connection_idle: spec.connection_idle.min(LONGEST),
            balance: spec.balance.clone().filter(|name| balance::find(name).is_some()),
            ..FunctionSpec::new(spec.name.clone(), "")
        };
        bounded.queue.deadline = bounded.queue.deadline.min(LONGEST);
        api::function_config(&Registered { id: *id, revision: *revision, spec: bounded })
    }

    /// Why no sandbox can be made, as data planes are to know it, if so.
    pub(super) fn creation_problem(&self) -> Option<wire::CreationProblem> {
        let backoff = &self.backoff;
        let (message, permanent) = match &self.unfit {
            Some(unfit) => (unfit.clone(), true),
            None if backoff.announced => (backoff.last_error.clone().unwrap_or_default(), backoff.permanent),
            None => return None,
        };
        Some(wire::CreationProblem { function: self.registered.id.0, permanent, message })
    }

    pub(super) fn demand(&self) -> Demand {
        let sum =
            |of: fn(&FunctionLoad) -> u32| self.loads.iter().map(|(_, load)| of(load)).fold(0, u32::saturating_add);
        Demand { waiting: sum(|load| load.waiting), running: sum(|load| load.running) }
    }

    pub(super) fn supply(&self) -> Supply {
        Supply { ready: self.ready, starting: self.starting, concurrency: self.registered.spec.concurrency }
    }

    /// Sandboxes that are known and neither in service nor being made.
    pub(super) fn leaving(&self) -> u32 {
        let total = u32::try_from(self.sandboxes.len()).unwrap_or(u32::MAX);
        total.saturating_sub(self.ready + self.starting)
    }

    pub(super) fn load(&self, data_plane: DataPlaneKey) -> Option<&FunctionLoad> {
        self.loads.iter().find(|(key, _)| *key == data_plane).map(|(_, load)| load)
    }

    /// Whether the slots of a further sandbox can be counted with those that a data plane holds. What cannot is granted to
    /// nobody: a sum that wrapped would be wrong from then on.
    pub(super) fn may_hold(&self, data_plane: DataPlaneKey, slots: u32) -> bool {
        self.load(data_plane).is_none_or(|load| load.held.checked_add(slots).is_some())
    }

    pub(super) fn load_mut(&mut self, data_plane: DataPlaneKey) -> &mut FunctionLoad {
        let place = self.loads.iter().position(|(key, _)| *key == data_plane).unwrap_or_else(|| {
            self.loads.push((data_plane, FunctionLoad::default()));
            self.loads.len() - 1
        });
        &mut self.loads[place].1
    }

    pub(super) fn add_sandbox(&mut self, id: SandboxId, state: SandboxState) {
        self.sandboxes.insert(id);
        self.add(state);
    }

    pub(super) fn remove_sandbox(&mut self, id: SandboxId, state: SandboxState) {
        self.sandboxes.remove(&id);
        self.free.remove(&id);
        self.subtract(state);
    }

    pub(super) fn count(&mut self, before: SandboxState, after: SandboxState) {
        self.subtract(before);
        self.add(after);
    }

    pub(super) fn note_free(&mut self, id: SandboxId, is_free: bool) {
        if is_free {
            self.free.insert(id);
        } else {
            self.free.remove(&id);
        }
    }

    fn add(&mut self, state: SandboxState) {
        match state {
            SandboxState::Ready => self.ready += 1,
            SandboxState::Starting => self.starting += 1,
            SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Draining | SandboxState::Terminating => {}
        }
    }

    fn subtract(&mut self, state: SandboxState) {
        match state {
            SandboxState::Ready => self.ready -= 1,
            SandboxState::Starting => self.starting -= 1,
            SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Draining | SandboxState::Terminating => {}
        }
    }
}

impl State {
    /// The policy that scales functions of this specification; an unknown name was refused at registration.
    fn policy_of(&self, spec: &FunctionSpec) -> &'static Policy {
        spec.scale.policy.as_deref().and_then(policy::autoscale::find).unwrap_or(self.settings.autoscale)
    }

    /// The policy that places sandboxes of this specification; an unknown name was refused at registration.
    pub(super) fn placement_of(&self, spec: &FunctionSpec) -> &'static placement::Policy {
        spec.placement.as_deref().and_then(placement::find).unwrap_or(self.settings.placement)
    }

    /// The registered function of that name.
    pub(super) fn function_named(&self, name: &str) -> Option<&Function> {
        self.cluster.functions.get(self.registry.function(name)?.id)
    }

    /// A function is registered.
    pub(super) fn add_function(&mut self, now: Now, registered: Arc<Registered>) {
        let id = registered.id;
        self.insert_function(registered);
        self.announce_function(id);
        self.touch(id, now.us);
    }

    pub(super) fn insert_function(&mut self, registered: Arc<Registered>) {
        let policy = self.policy_of(&registered.spec);
        let mut function = Function::new(registered, policy);
        function.check();
        self.cluster.functions.insert(function);
    }

    /// A function has another specification.
    pub(super) fn update_function(&mut self, now: Now, registered: Arc<Registered>, needs_new_sandboxes: bool) {
        let id = registered.id;
        let Some(function) = self.cluster.functions.get_mut(id) else { return };
        let spec = &registered.spec;
        let policy_changed = function.registered.spec.scale.policy != spec.scale.policy;
        function.autoscaler.retune(&spec.scale, spec.concurrency);
        function.hold_until_us = function.hold_until_us.min(now.after(spec.scale.stable_window));
        function.registered = registered;
        let was_unfit = function.unfit.is_some();
        function.check();
        let fits_again = was_unfit && function.unfit.is_none();
        if needs_new_sandboxes {
            function.backoff.failures = 0;
            // What went wrong with another program says nothing about this one.
            function.backoff.last_error = None;
            function.backoff.not_before_us = 0;
            function.backoff.found_no_room = false;
        }
        if policy_changed {
            self.replace_autoscaler(id);
        }
        self.announce_function(id);
        if fits_again {
            self.announce_creation_problem(id, String::new(), false);
        }
        if needs_new_sandboxes {
            self.end_backoff(id);
            self.drain_other_revisions(now, id);
        }
        self.touch(id, now.us);
    }

    /// A function is deregistered: its name is free at once, its sandboxes are drained and ended.
    pub(super) fn remove_function(&mut self, now: Now, id: FunctionId) {
        let index = self.registry.function_index();
        self.tell_every_data_plane(|| DataPlaneChange::Removed(id.0, index));
        self.cluster.unschedulable.forget(id);
        let Some(function) = self.cluster.functions.get_mut(id) else { return };
        function.removed = true;
        let (due, sandboxes) = (function.due_us.take(), function.sandboxes.clone());
        self.timers.reschedule(id, due, None);
        if sandboxes.is_empty() {
            self.cluster.functions.forget(id);
        }
        for sandbox in sandboxes {
            self.drain_sandbox(now, sandbox);
        }
    }

    fn replace_autoscaler(&mut self, id: FunctionId) {
        let Some(function) = self.cluster.functions.get(id) else { return };
        let spec = &function.registered.spec;
        let autoscaler = Autoscaler::new(self.policy_of(spec), &spec.scale, spec.concurrency);
        if let Some(function) = self.cluster.functions.get_mut(id) {
            function.autoscaler = autoscaler;
        }
    }

    fn drain_other_revisions(&mut self, now: Now, id: FunctionId) {
        let Some(function) = self.cluster.functions.get(id) else { return };
        let revision = function.registered.revision;
        for sandbox in function.sandboxes.clone() {
            if self.cluster.sandboxes.get(&sandbox).is_some_and(|sandbox| sandbox.revision != revision) {
                self.drain_sandbox(now, sandbox);
            }
        }
    }

    fn announce_function(&mut self, id: FunctionId) {
        let Some(function) = self.cluster.functions.get(id) else { return };
        let (config, index) = (function.config(), self.registry.function_index());
        self.tell_every_data_plane(|| DataPlaneChange::Function(Box::new(config.clone()), index));
    }

    /// Tells data planes whether sandboxes of a function can be made.
    pub(super) fn announce_creation_problem(&mut self, id: FunctionId, message: String, permanent: bool) {
        let problem = wire::CreationProblem { function: id.0, permanent, message };
        self.tell_every_data_plane(|| DataPlaneChange::Problem(problem.clone()));
    }
}
