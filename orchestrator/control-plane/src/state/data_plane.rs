//! Data planes: which are connected, what they hold, and what they say.

use std::net::SocketAddr;

use api::wire;
use model::{DataPlaneId, EndpointState, Epoch, FunctionId, SandboxId};
use policy::autoscale::Sample;

use super::{DataPlaneChange, Effect, Map, Now, SessionId, State, TimedMessage, sandbox::SandboxState};

/// A lower bound is kept for the others from when a data plane has been away for so long: most are back sooner.
const AWAY_GRACE_US: u64 = 2_000_000;

/// A data plane, stable over reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DataPlaneKey(pub(super) u32);

/// What one data plane says of one function, and what it holds of it.
#[derive(Clone, Debug, Default)]
pub(super) struct FunctionLoad {
    pub(super) waiting: u32,
    pub(super) running: u32,
    /// Slots granted to it.
    pub(super) held: u32,
    /// Slots granted to it that it has not acknowledged: they will serve part of `waiting`.
    pub(super) under_way: u32,
    pub(super) cap: GrantCap,
    /// It is disconnected, or has not answered in time when asked for slots: what it holds serves nobody else, and is not
    /// waited for.
    pub(super) silent: bool,
}

/// The newest limit sent to one data plane for one function.
#[derive(Clone, Debug, Default)]
pub(super) struct GrantCap {
    pub(super) version: u64,
    /// Slots it should hold at most, while the limit stands.
    pub(super) slots: Option<u32>,
    /// It was asked to give busy sandboxes back too, as they become free.
    pub(super) drain: bool,
    /// It has not answered yet.
    pub(super) pending: bool,
    /// While somebody waits for what was asked back: when it should have answered, in microseconds.
    pub(super) due_us: Option<u64>,
    /// No further limit before this time, in microseconds: it just refused one.
    pub(super) not_before_us: u64,
}

impl FunctionLoad {
    /// Invocations that wait and that nothing sent so far will serve.
    pub(super) fn unmet(&self) -> u32 {
        self.waiting.saturating_sub(self.under_way)
    }

    /// Slots it has been asked to give back and has neither given nor refused.
    pub(super) fn pending_revocation(&self) -> u32 {
        let stands = !self.silent && (self.cap.pending || self.cap.drain);
        self.cap.slots.filter(|_| stands).map_or(0, |slots| self.held.saturating_sub(slots))
    }

    /// Slots held and unused, as far as is known.
    pub(super) fn idle(&self) -> u32 {
        self.held.saturating_sub(self.running.saturating_add(self.waiting))
    }
}

/// One data plane.
#[derive(Debug)]
pub(super) struct DataPlane {
    pub(super) id: DataPlaneId,
    pub(super) session: Option<SessionId>,
    /// Where it takes invocations.
    pub(super) address: Option<SocketAddr>,
    /// The greatest function change it has applied.
    pub(super) applied: u64,
    /// When it vanished, in microseconds.
    pub(super) left_us: u64,
    /// The process that is or was connected.
    pub(super) instance: u64,
    /// It is being given up: what it says it holds after that is news.
    pub(super) leaving: bool,
}

/// All data planes.
#[derive(Default)]
pub(super) struct DataPlanes {
    known: Vec<Option<DataPlane>>,
    sessions: Map<SessionId, DataPlaneKey>,
    next_version: u64,
}

impl DataPlanes {
    pub(super) fn get(&self, key: DataPlaneKey) -> Option<&DataPlane> {
        self.known.get(key.0 as usize)?.as_ref()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut DataPlane> {
        self.known.iter_mut().flatten()
    }

    pub(super) fn get_mut(&mut self, key: DataPlaneKey) -> Option<&mut DataPlane> {
        self.known.get_mut(key.0 as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DataPlaneKey, &DataPlane)> {
        self.known.iter().zip(0..).filter_map(|(known, key)| known.as_ref().map(|known| (DataPlaneKey(key), known)))
    }

    pub(super) fn connected(&self) -> impl Iterator<Item = (DataPlaneKey, SessionId, &DataPlane)> {
        self.iter().filter_map(|(key, known)| known.session.map(|session| (key, session, known)))
    }

    pub(super) fn find(&self, id: &DataPlaneId) -> Option<DataPlaneKey> {
        self.iter().find(|(_, known)| known.id == *id).map(|(key, _)| key)
    }

    /// Adds a data plane, unless there is one of that name. It is away since `left_us`.
    pub(super) fn put(&mut self, id: &DataPlaneId, left_us: u64) {
        if self.find(id).is_some() {
            return;
        }
        let place = self.known.iter().position(Option::is_none).unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() - 1
        });
        self.known[place] = Some(DataPlane {
            id: id.clone(),
            session: None,
            address: None,
            applied: 0,
            left_us,
            instance: 0,
            leaving: false,
        });
    }

    pub(super) fn remove(&mut self, key: DataPlaneKey) {
        if let Some(known) = self.known.get_mut(key.0 as usize) {
            *known = None;
        }
    }

    pub(super) fn by_session(&self, session: SessionId) -> Option<DataPlaneKey> {
        self.sessions.get(&session).copied()
    }

    /// A version greater than all before; versions order deltas and limits within an epoch.
    pub(super) fn next_version(&mut self) -> u64 {
        self.next_version += 1;
        self.next_version
    }

    fn attach(&mut self, key: DataPlaneKey, session: SessionId) -> Option<SessionId> {
        self.sessions.insert(session, key);
        let old = self.get_mut(key).and_then(|known| known.session.replace(session));
        if let Some(old) = old {
            self.sessions.remove(&old);
        }
        old
    }

    fn detach(&mut self, session: SessionId) -> Option<DataPlaneKey> {
        let key = self.sessions.remove(&session)?;
        self.get_mut(key)?.session = None;
        Some(key)
    }
}

impl State {
    pub(super) fn tell_data_plane(&mut self, key: DataPlaneKey, change: DataPlaneChange) {
        if let Some(session) = self.cluster.data_planes.get(key).and_then(|known| known.session) {
            self.effect(Effect::ToDataPlane { session, change });
        }
    }

    pub(super) fn tell_every_data_plane(&mut self, change: impl Fn() -> DataPlaneChange) {
        for (_, session, _) in self.cluster.data_planes.connected() {
            self.effects.push(Effect::ToDataPlane { session, change: change() });
        }
    }

    /// Takes a data plane in that the log knows.
    pub(super) fn admit_data_plane(&mut self, now: Now, session: SessionId, hello: wire::DataPlaneHello) {
        let id = DataPlaneId(hello.data_plane);
        let Some(key) = self.cluster.data_planes.find(&id) else { return };
        if let Some(old) = self.cluster.data_planes.attach(key, session) {
            self.effect(Effect::Close { session: old, reason: format!("data plane {id} connected anew") });
        }
        if let Some(known) = self.cluster.data_planes.get_mut(key) {
            known.address = hello.address.parse().ok();
            known.applied = 0;
            known.instance = hello.instance;
        }
        self.send_snapshot(key, session);
        let is_new_process = hello.epoch == Epoch::default().0;
        if is_new_process {
            self.recovery.holder_lost(key);
        }
        let touched = self.reconcile_grants(now, key, &hello.held, is_new_process);
        self.recovery.data_plane_reported(key);
        self.settle_unclaimed(now);
        self.finish_recovery(now);
        self.touch_all(touched, now.us);
    }

    fn send_snapshot(&mut self, key: DataPlaneKey, session: SessionId) {
        let welcome = self.welcome(0);
        self.effect(Effect::ToDataPlane { session, change: DataPlaneChange::Welcome(welcome) });
        let sequence = self.registry.function_index();
        let mut problems = Vec::new();
        for registered in self.registry.functions() {
            let Some(function) = self.cluster.functions.get(registered.id) else { continue };
            let config = Box::new(function.config());
            let change = DataPlaneChange::Function(config, sequence);
            self.effects.push(Effect::ToDataPlane { session, change });
            problems.extend(function.creation_problem());
        }
        self.effect(Effect::ToDataPlane { session, change: DataPlaneChange::SnapshotEnd(sequence) });
        for problem in problems {
            self.tell_data_plane(key, DataPlaneChange::Problem(problem));
        }
    }

    pub(super) fn data_plane_left(&mut self, now: Now, session: SessionId) {
        self.joining.forget(session);
        let Some(key) = self.cluster.data_planes.detach(session) else { return };
        if let Some(known) = self.cluster.data_planes.get_mut(key) {
            known.left_us = now.us;
            tracing::info!(data_plane = %known.id, "its stream ended; what it holds waits for it");
        }
        self.note_disconnected(now, key);
        self.release_replies(now);
    }

    /// What a data plane was asked to give back it will not give back over a connection that has ended, and what it
    /// holds serves its own clients only: others need successors, also to keep a lower bound.
    fn note_disconnected(&mut self, now: Now, key: DataPlaneKey) {
        let (mut touched, mut later) = (Vec::new(), Vec::new());
        let has_others = self.cluster.data_planes.connected().next().is_some();
        for (id, function) in self.cluster.functions.iter_mut() {
            if function.load(key).is_none_or(|load| load.held == 0) {
                continue;
            }
            let (is_waited_for, min) = (function.demand().waiting > 0, function.registered.spec.scale.min);
            let load = function.load_mut(key);
            (load.cap, load.silent) = (GrantCap::default(), true);
            if is_waited_for {
                touched.push(id);
            } else if min > 0 && has_others {
                later.push(id);
            }
        }
        later.into_iter().for_each(|id| self.decide_by(id, now.us + AWAY_GRACE_US));
        self.touch_all(touched, now.us);
    }

    pub(super) fn on_data_plane_message(&mut self, now: Now, session: SessionId, said: TimedMessage) {
        let TimedMessage { message, published, read_us } = said;
        let Some(key) = self.cluster.data_planes.by_session(session) else { return };
        // The levels of both are those of when the message was written, but of older programs only those of demand are.
        for sample in message.samples {
            let touched = self.on_sample(now, key, &sample);
            self.touch_all(touched, read_us);
        }
        for demand in message.demand {
            let touched = self.on_demand(now, key, &demand);
            self.touch_all(touched, read_us);
        }
        // Before the acknowledgements, which give back what does not work: it would be granted again.
        for failure in message.failures {
            let touched = self.on_endpoint_failure(now, key, &failure);
            self.touch_all(touched, read_us);
        }
        for (ack, published_us) in message.acks.iter().zip(published) {
            let touched = self.on_grant_ack(key, ack, published_us, read_us);
            self.touch_all(touched, read_us);
        }
        for ack in message.limit_acks {
            let touched = self.on_cap_ack(now, key, &ack);
            self.touch_all(touched, read_us);
        }
        let newest = self.registry.function_index();
        if message.applied > 0
            && let Some(known) = self.cluster.data_planes.get_mut(key)
        {
            known.applied = known.applied.max(message.applied.min(newest));
            self.release_replies(now);
        }
    }

    /// Takes note of demand; the function, if its policy acts on demand at once.
    fn on_demand(&mut self, now: Now, key: DataPlaneKey, demand: &wire::Demand) -> Option<FunctionId> {
        let id = FunctionId(demand.function);
        let function = self.cluster.functions.get_mut(id).filter(|function| !function.removed)?;
        let load = function.load_mut(key);
        (load.waiting, load.running) = (demand.waiting, demand.running);
        let is_news = (demand.waiting > 0 || demand.running > 0) && function.activity.touch(now);
        let decides = function.autoscaler.on_demand() || load_is_unmet(function, key);
        if is_news {
            self.note_active(now, id);
        }
        decides.then_some(id)
    }

    fn on_sample(&mut self, now: Now, key: DataPlaneKey, sample: &wire::Sample) -> Option<FunctionId> {
        let id = FunctionId(sample.function);
        let function = self.cluster.functions.get_mut(id).filter(|function| !function.removed)?;
        let load = function.load_mut(key);
        (load.waiting, load.running) = (sample.waiting, sample.running);
        function.activity.invocations = function.activity.invocations.saturating_add(sample.requests.into());
        function.activity.cold = function.activity.cold.saturating_add(sample.cold);
        let is_news = (sample.requests > 0 || sample.peak > 0) && function.activity.touch(now);
        let sample = Sample {
            span_ms: sample.span_ms,
            concurrency_us: sample.concurrency_us,
            requests: sample.requests,
            waiting: sample.waiting,
            running: sample.running,
            peak: sample.peak,
        };
        function.autoscaler.record(now.ms(), key.0, &sample);
        let decides = function.autoscaler.on_demand() || function.due_us.is_none();
        if is_news {
            self.note_active(now, id);
        }
        decides.then_some(id)
    }

    /// A data plane saw that a sandbox does not work: it is deleted, also when nobody holds it, because what was held
    /// when it broke may have been given back since, or not be claimed yet after a restart. Of what another one holds it
    /// knows nothing. Either way it is told to forget the sandbox, which it does not do of its own accord, unless other
    /// invocations run in what it holds: then the sandbox is drained.
    fn on_endpoint_failure(
        &mut self,
        now: Now,
        key: DataPlaneKey,
        failure: &wire::EndpointFailure,
    ) -> Option<FunctionId> {
        let id = SandboxId::from_wire(failure.sandbox);
        let grant = wire::HeldGrant { function: failure.function, sandbox: failure.sandbox, slots: 0 };
        let Some(sandbox) = self.cluster.sandboxes.get(&id) else {
            let is_expected = id.epoch() < self.term.epoch && self.recovery.expects_sandboxes();
            match (is_expected, failure.drains) {
                // The data plane said that it holds this: granted when its worker has reported it, and reported again.
                (true, true) => return None,
                (true, false) => self.recovery.note_broken(key, id),
                (false, _) => self.give_up_unknown(&[id]),
            }
            self.send_gone(key, &grant);
            return None;
        };
        let drains = failure.drains && sandbox.grant.is_some_and(|grant| grant.data_plane == key);
        let is_elsewhere = sandbox.grant.is_some_and(|grant| grant.data_plane != key);
        let was_granted = !matches!(sandbox.state, SandboxState::Starting | SandboxState::Terminating);
        if is_elsewhere || !was_granted || sandbox.function.0 != failure.function {
            self.send_gone(key, &grant);
            return None;
        }
        let function = sandbox.function;
        tracing::warn!(sandbox = %id, cause = failure.cause, "a data plane could not reach a sandbox");
        self.metrics.endpoint_failures.inc();
        // While its node is suspect that is the node's fault, and one that was retired had worked.
        if matches!(sandbox.state, SandboxState::Ready | SandboxState::Unclaimed) && !failure.retired {
            self.note_end_of_service(now, id, Some(key), &failure.cause);
        }
        if drains {
            self.drain_retired(now, id);
        } else {
            self.send_gone(key, &grant);
            self.end_grant(id);
            self.delete_sandbox(id);
        }
        Some(function)
    }

    /// Lets what runs in a sandbox that is not used any more end: what began before takes the function's time-out at most.
    /// Too many such sandboxes leave less room for others, and none is ended for another.
    fn drain_retired(&mut self, now: Now, id: SandboxId) {
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else { return };
        sandbox.retired = true;
        if sandbox.state == SandboxState::Draining {
            // Its holder waits to be told, and may have missed it.
            return self.send_endpoint(id, EndpointState::Draining);
        }
        let timeout = self.cluster.functions.get(sandbox.function).map(|function| function.registered.spec.timeout);
        self.drain_within(now, id, self.settings.health.drain_deadline.saturating_add(timeout.unwrap_or_default()));
    }
}

/// Whether a data plane has waiting invocations that nothing serves: free sandboxes may be granted, whatever the policy.
fn load_is_unmet(function: &super::function::Function, key: DataPlaneKey) -> bool {
    !function.free.is_empty() && function.load(key).is_some_and(|load| load.unmet() > 0)
}
