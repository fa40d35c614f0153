//! Functions: specification, demand, supply, and creation failures.

use std::{collections::BTreeSet, sync::Arc};

use model::{FunctionId, FunctionName, FunctionSpec, Registered, Revision, SandboxId, duration::MAX_DURATION};
use policy::{
    autoscale::{Autoscaler, Demand, Policy, Supply},
    balance,
    placement::NodeKey,
};

use super::{
    super::{Map, effects::CreationProblem},
    activity::Activity,
    data_plane::{DataPlaneKey, FunctionLoad},
    sandbox::SandboxState,
};

/// Creations of a function that failed lately.
#[derive(Debug, Default)]
pub(in crate::state) struct CreationBackoff {
    /// Failures since the last success: a sandbox that stayed ready for long enough, or that was used and then
    /// returned.
    pub(in crate::state) failures: u32,
    /// Time of the newest command to create a sandbox, in microseconds.
    pub(in crate::state) commanded_us: Option<u64>,
    /// Time of the newest failure, in microseconds.
    pub(in crate::state) failed_us: Option<u64>,
    /// No attempt before this time, in microseconds.
    pub(in crate::state) not_before_us: u64,
    /// The newest failure, in words.
    pub(in crate::state) last_error: Option<String>,
    /// A later creation found no room, which `last_error` does not show.
    pub(in crate::state) found_no_room: bool,
    /// Another attempt cannot succeed, as far as the worker can tell.
    pub(in crate::state) permanent: bool,
    /// Nodes that failed it, newest last, and until when each is avoided, in microseconds.
    pub(in crate::state) avoid: Vec<(NodeKey, u64)>,
    /// Data planes were sent the problem.
    pub(in crate::state) announced: bool,
}

/// One registered function.
pub(in crate::state) struct Function {
    /// Shared with commands in outboxes.
    pub(in crate::state) registered: Arc<Registered>,
    pub(in crate::state) autoscaler: Autoscaler,
    pub(super) sandboxes: BTreeSet<SandboxId>,
    /// Ready sandboxes without a grant.
    pub(super) free: BTreeSet<SandboxId>,
    pub(super) ready: u32,
    pub(super) starting: u32,
    /// Demand, and slots held, by data plane.
    pub(super) loads: Vec<(DataPlaneKey, FunctionLoad)>,
    pub(in crate::state) desired: u32,
    pub(in crate::state) backoff: CreationBackoff,
    pub(in crate::state) activity: Activity,
    /// Time of its next decision without an event, in microseconds.
    pub(super) due_us: Option<u64>,
    /// Not scaled down before this time: after a restart, one stable window.
    pub(in crate::state) hold_until_us: u64,
    /// Deregistered; kept until its last sandbox is no more.
    pub(in crate::state) removed: bool,
    /// Reason why no sandbox of it is created: the specification exceeds a bound that is newer than its registration.
    pub(in crate::state) unfit: Option<String>,
}

/// All functions by id: those of the registry, and removed ones until their last sandbox has ended.
#[derive(Default)]
pub(in crate::state) struct Functions(Map<FunctionId, Box<Function>>);

impl Functions {
    pub(in crate::state) fn get(&self, id: FunctionId) -> Option<&Function> {
        self.0.get(&id).map(AsRef::as_ref)
    }

    pub(in crate::state) fn get_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        self.0.get_mut(&id).map(AsMut::as_mut)
    }

    /// A function that exists, as its id comes from another table.
    #[track_caller]
    pub(in crate::state) fn known(&self, id: FunctionId) -> Option<&Function> {
        super::expect_known(self.get(id), "function", id)
    }

    /// The same, to change it.
    #[track_caller]
    pub(in crate::state) fn known_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        super::expect_known(self.get_mut(id), "function", id)
    }

    /// Every function, also those being removed, in no useful order.
    pub(in crate::state) fn iter_mut(&mut self) -> impl Iterator<Item = (FunctionId, &mut Function)> {
        self.0.iter_mut().map(|(id, function)| (*id, function.as_mut()))
    }

    pub(in crate::state) fn insert(&mut self, function: Function) {
        let before = self.0.insert(function.registered.id, Box::new(function));
        debug_assert!(before.is_none(), "an id names one function");
    }

    pub(super) fn remove(&mut self, id: FunctionId) {
        self.0.remove(&id);
    }

    #[cfg(test)]
    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = &Function> {
        self.0.values().map(AsRef::as_ref)
    }
}

impl Function {
    pub(in crate::state) fn new(registered: Arc<Registered>, policy: &Policy) -> Self {
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

    /// A function that is not in the log any more, of which a sandbox was found: it is known again until the last one ends.
    pub(in crate::state) fn deregistered(id: FunctionId, revision: Revision, policy: &Policy) -> Self {
        // Nothing is created for it, so only its identity matters.
        let spec = FunctionSpec::new(FunctionName::deregistered(), "");
        Self { removed: true, ..Self::new(Registered { id, revision, spec }.into(), policy) }
    }

    /// A function of the registry.
    pub(in crate::state) fn registered(registered: Arc<Registered>, policy: &Policy) -> Self {
        let mut function = Self::new(registered, policy);
        function.check();
        function
    }

    /// Checks the size of the specification: the registration may be older than the bound. A specification that exceeds
    /// only bounds of other kinds continues to work.
    pub(in crate::state) fn check(&mut self) {
        let spec = &self.registered.spec;
        self.unfit = spec.check_size().err().map(|error| {
            tracing::warn!(function = %spec.name, %error, "no sandbox of it is created until it is registered again");
            format!("{error}: register the function again, it was before there was this bound")
        });
    }

    /// Its configuration as data planes receive it. If the specification exceeds a bound, they get the part within it:
    /// they rely on the bound for the size of messages and the length of times, and existing sandboxes must serve as
    /// before.
    pub(in crate::state) fn config(&self) -> Arc<Registered> {
        if self.unfit.is_none() {
            return self.registered.clone();
        }
        let Registered { id, revision, spec } = self.registered.as_ref();
        let mut bounded = FunctionSpec {
            protocol: spec.protocol,
            concurrency: spec.concurrency,
            retry: spec.retry,
            timeout: spec.timeout.min(MAX_DURATION),
            queue: spec.queue,
            connection_idle: spec.connection_idle.min(MAX_DURATION),
            balance: spec.balance.clone().filter(|name| balance::find(name).is_some()),
            ..FunctionSpec::new(spec.name.clone(), "")
        };
        bounded.queue.deadline = bounded.queue.deadline.min(MAX_DURATION);
        Arc::new(Registered { id: *id, revision: *revision, spec: bounded })
    }

    /// Reason why no sandbox can be created, as sent to data planes.
    pub(in crate::state) fn creation_problem(&self) -> Option<CreationProblem> {
        let backoff = &self.backoff;
        match &self.unfit {
            Some(unfit) => Some(CreationProblem { message: unfit.clone(), is_permanent: true }),
            None if backoff.announced => {
                let message = backoff.last_error.clone().unwrap_or_default();
                Some(CreationProblem { message, is_permanent: backoff.permanent })
            }
            None => None,
        }
    }

    /// Its sandboxes in any state, oldest first.
    pub(in crate::state) fn sandboxes(&self) -> &BTreeSet<SandboxId> {
        &self.sandboxes
    }

    /// Ready sandboxes that are granted to no data plane.
    pub(in crate::state) fn free(&self) -> &BTreeSet<SandboxId> {
        &self.free
    }

    /// Number of ready sandboxes.
    pub(in crate::state) fn ready(&self) -> u32 {
        self.ready
    }

    /// Number of sandboxes that are starting.
    pub(in crate::state) fn starting(&self) -> u32 {
        self.starting
    }

    /// Time of its next decision without an event, in microseconds.
    pub(in crate::state) fn due_us(&self) -> Option<u64> {
        self.due_us
    }

    /// The data planes that have reported or hold something.
    pub(in crate::state) fn loads(&self) -> impl Iterator<Item = (DataPlaneKey, &FunctionLoad)> {
        self.loads.iter().map(|(key, load)| (*key, load))
    }

    pub(in crate::state) fn loads_mut(&mut self) -> impl Iterator<Item = &mut FunctionLoad> {
        self.loads.iter_mut().map(|(_, load)| load)
    }

    pub(in crate::state) fn demand(&self) -> Demand {
        let sum =
            |of: fn(&FunctionLoad) -> u32| self.loads.iter().map(|(_, load)| of(load)).fold(0, u32::saturating_add);
        Demand { waiting: sum(|load| load.waiting), running: sum(|load| load.running) }
    }

    pub(in crate::state) fn supply(&self) -> Supply {
        Supply { ready: self.ready, starting: self.starting, concurrency: self.registered.spec.concurrency }
    }

    /// Number of sandboxes that are neither ready nor starting.
    pub(in crate::state) fn leaving(&self) -> u32 {
        let total = u32::try_from(self.sandboxes.len()).unwrap_or(u32::MAX);
        total.saturating_sub(self.ready + self.starting)
    }

    pub(in crate::state) fn load(&self, data_plane: DataPlaneKey) -> Option<&FunctionLoad> {
        self.loads.iter().find(|(key, _)| *key == data_plane).map(|(_, load)| load)
    }

    /// Returns true if the slots of a further sandbox can be counted with those that a data plane holds. Otherwise
    /// nothing is granted to it: a sum that wrapped would stay wrong.
    pub(in crate::state) fn may_hold(&self, data_plane: DataPlaneKey, slots: u32) -> bool {
        self.load(data_plane).is_none_or(|load| load.held.checked_add(slots).is_some())
    }

    pub(in crate::state) fn reported_load_mut(&mut self, data_plane: DataPlaneKey) -> Option<&mut FunctionLoad> {
        self.loads.iter_mut().find(|(key, _)| *key == data_plane).map(|(_, load)| load)
    }

    /// The load at a data plane, created if there is none.
    pub(in crate::state) fn load_mut(&mut self, data_plane: DataPlaneKey) -> &mut FunctionLoad {
        let place = self.loads.iter().position(|(key, _)| *key == data_plane).unwrap_or_else(|| {
            self.loads.push((data_plane, FunctionLoad::default()));
            self.loads.len() - 1
        });
        &mut self.loads[place].1
    }

    /// Forgets what a data plane reported. Returns true if it had reported anything.
    pub(in crate::state) fn forget_load(&mut self, data_plane: DataPlaneKey) -> bool {
        let Some(place) = self.loads.iter().position(|(key, _)| *key == data_plane) else { return false };
        let (_, load) = self.loads.swap_remove(place);
        debug_assert_eq!(load.held, 0, "its grants are ended before");
        true
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
