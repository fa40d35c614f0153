//! Messages of data planes.

use model::{DataPlaneId, FunctionId};

use super::{
    super::{
        SessionId,
        cluster::{CreationOutcome, DataPlaneKey, DataPlanes, Function, GrantCap, Recent, SandboxState, Tables},
        context::Context,
        effects::{DataPlaneChange, Effects, ProblemChange},
        recovery::Recovery,
    },
    backoff::Source,
    grant::GrantHandler,
    recovery::RecoveryHandler,
    sandbox::SandboxHandler,
};
use crate::message::{DataPlaneHello, DataPlaneMessage, Demand, EndpointFailure, FunctionSample, GrantAck};

/// A lower bound is kept at other data planes once one has been away for so long: most are back sooner.
const AWAY_GRACE_US: u64 = 2_000_000;

/// Handles what data planes send.
pub(in crate::state) struct DataPlaneHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recent: &'a mut Recent,
    pub(super) recovery: &'a mut Recovery,
    pub(super) effects: &'a mut Effects,
}

impl DataPlaneHandler<'_> {
    fn grants(&mut self) -> GrantHandler<'_> {
        GrantHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn recovery(&mut self) -> RecoveryHandler<'_> {
        RecoveryHandler {
            context: self.context,
            tables: self.tables,
            data_planes: self.data_planes,
            recovery: self.recovery,
            effects: self.effects,
        }
    }

    /// Admits a data plane that is durable.
    pub(in crate::state) fn admit(&mut self, session: SessionId, hello: DataPlaneHello) {
        let id = &hello.id;
        // It may have been removed since the command that it waited for.
        let Some(key) = self.data_planes.find(id) else { return };
        if let Some(old) = self.data_planes.attach(key, session) {
            self.effects.close(old, format!("data plane {id} connected again"));
        }
        if let Some(known) = self.data_planes.get_mut(key) {
            known.address = hello.address;
            // It gets a new snapshot, which it has not acknowledged.
            known.applied = 0;
            known.instance = hello.instance;
        }
        self.send_snapshot(key);
        self.recovery().on_data_plane_reported(key, &hello.held, hello.is_new_process());
    }

    fn send_snapshot(&mut self, key: DataPlaneKey) {
        let Self { context, tables: Tables { functions, .. }, data_planes, effects, .. } = self;
        let mut send = |change| effects.send_to_data_plane(data_planes, key, change);
        send(DataPlaneChange::Welcome(context.welcome(None)));
        let sequence = context.registry.function_index();
        let mut problems = Vec::new();
        for function in context.registry.functions().filter_map(|registered| functions.known(registered.id)) {
            send(DataPlaneChange::Function(function.config(), sequence));
            if let Some(problem) = function.creation_problem() {
                problems.push(ProblemChange { function: function.registered.id, problem: Some(problem) });
            }
        }
        send(DataPlaneChange::SnapshotEnd(sequence));
        problems.into_iter().for_each(|problem| send(DataPlaneChange::Problem(problem)));
    }

    /// A data plane's connection ended. Revocations sent over it are lost, and its slots serve only its own clients:
    /// other data planes need further sandboxes, also to keep a lower bound.
    pub(in crate::state) fn on_disconnect(&mut self, session: SessionId) {
        // A peer that was never admitted holds nothing.
        let Some(key) = self.data_planes.detach(session) else { return };
        let now_us = self.context.now.us;
        if let Some(known) = self.data_planes.get_mut(key) {
            known.left_us = now_us;
            tracing::info!(data_plane = %known.id, "its stream ended; what it holds waits for it");
        }
        let mut below_bound_later = Vec::new();
        let has_others = self.data_planes.connected().next().is_some();
        for (id, function) in self.tables.functions.iter_mut() {
            if function.load(key).is_none_or(|load| load.held() == 0) {
                continue;
            }
            let (is_waited_for, min) = (function.demand().waiting > 0, function.registered.spec.scale.min);
            let load = function.load_mut(key);
            (load.cap, load.unresponsive) = (GrantCap::default(), true);
            if is_waited_for {
                self.effects.touch(id, now_us);
            } else if min > 0 && has_others {
                below_bound_later.push(id);
            }
        }
        below_bound_later.into_iter().for_each(|id| self.tables.decide_by(id, now_us + AWAY_GRACE_US));
    }

    /// Ends what a data plane held, never to be granted again, and forgets it.
    pub(in crate::state) fn remove(&mut self, id: &DataPlaneId) {
        // The log may name one twice: one that left, came back, and left again.
        let Some(key) = self.data_planes.find(id) else { return };
        if let Some(session) = self.data_planes.get(key).and_then(|known| known.session) {
            // It connected again after its removal was decided, so it has to report its grants again.
            self.effects.close(session, "it was removed because it was away for too long".to_owned());
            self.on_disconnect(session);
        }
        let held = self.tables.sandboxes.iter().filter(|(_, sandbox)| sandbox.is_granted_to(key));
        for id in held.map(|(id, _)| id).collect::<Vec<_>>() {
            self.sandboxes().delete(id);
            self.grants().end_grant(id);
        }
        // It may hold sandboxes without a claim, and cannot report them any more.
        self.recovery.holder_lost(key);
        tracing::warn!(data_plane = %id, "gone: the sandboxes it held are ended");
        self.recovery.data_plane_reported(key);
        for (id, function) in self.tables.functions.iter_mut() {
            if function.forget_load(key) {
                self.effects.touch(id, self.context.now.us);
            }
        }
        self.data_planes.remove(key);
        self.recovery().resolve_unclaimed();
    }

    pub(in crate::state) fn on_message(&mut self, session: SessionId, message: &DataPlaneMessage) {
        // Its connection may have been closed since.
        let Some(key) = self.data_planes.by_session(session) else { return };
        let read_us = message.read_us;
        // The loads of both are those of when the message was written, but of older programs only those of demand are.
        for sample in &message.samples {
            let touched = self.on_sample(key, sample);
            self.effects.touch_all(touched, read_us);
        }
        for demand in &message.demand {
            let touched = self.on_demand(key, demand);
            self.effects.touch_all(touched, read_us);
        }
        // Before the acknowledgements, which return broken sandboxes: those would be granted again.
        for failure in &message.failures {
            let touched = self.on_endpoint_failure(key, failure);
            self.effects.touch_all(touched, read_us);
        }
        for ack in &message.acks {
            let touched = self.on_grant_ack(key, ack, read_us);
            self.effects.touch_all(touched, read_us);
        }
        for ack in &message.cap_acks {
            let touched = self.grants().on_cap_ack(key, ack);
            self.effects.touch_all(touched, read_us);
        }
        if let (Some(applied), Some(known)) = (message.applied, self.data_planes.get_mut(key)) {
            // No more than there is: a faulty data plane must not acknowledge changes of the future.
            known.applied = known.applied.max(applied.min(self.context.registry.function_index()));
        }
    }

    /// Records demand. Returns the function, if its policy acts on demand at once.
    fn on_demand(&mut self, key: DataPlaneKey, demand: &Demand) -> Option<FunctionId> {
        let Demand { function: id, waiting, running } = *demand;
        let function = self.tables.functions.get_mut(id).filter(|function| !function.removed)?;
        let load = function.load_mut(key);
        (load.waiting, load.running) = (waiting, running);
        let decides = function.autoscaler.on_demand() || has_free_for_unmet(function, key);
        if waiting > 0 || running > 0 {
            self.recent.note(&mut self.tables.functions, self.context.now, id);
        }
        decides.then_some(id)
    }

    fn on_sample(&mut self, key: DataPlaneKey, sample: &FunctionSample) -> Option<FunctionId> {
        let now = self.context.now;
        let FunctionSample { function: id, cold, sample } = sample;
        let function = self.tables.functions.get_mut(*id).filter(|function| !function.removed)?;
        let load = function.load_mut(key);
        (load.waiting, load.running) = (sample.waiting, sample.running);
        function.activity.invocations = function.activity.invocations.saturating_add(sample.requests.into());
        function.activity.cold = function.activity.cold.saturating_add(*cold);
        function.autoscaler.record(now.ms(), key.0, sample);
        let decides = function.autoscaler.on_demand() || function.due_us().is_none();
        if sample.requests > 0 || sample.peak > 0 {
            self.recent.note(&mut self.tables.functions, now, *id);
        }
        decides.then_some(*id)
    }

    /// A data plane reports the slots of a sandbox that it holds. Returns the function, if a decision may follow from
    /// it.
    fn on_grant_ack(&mut self, key: DataPlaneKey, ack: &GrantAck, read_us: u64) -> Option<FunctionId> {
        let id = ack.sandbox;
        let sandbox = self.tables.sandboxes.get(id).filter(|sandbox| sandbox.is_granted_to(key))?;
        // An acknowledgement of an older change is void, also when it returns the slots: the newest change granted them
        // again, and will be acknowledged too.
        if sandbox.version != ack.version {
            return None;
        }
        let function = sandbox.function();
        if ack.slots == 0 {
            let leaves = sandbox.state() == SandboxState::Draining;
            self.grants().end_grant(id);
            if leaves {
                self.sandboxes().backoff().on_orderly_end(id);
                self.sandboxes().delete(id);
            }
            return Some(function);
        }
        self.tables.sandboxes.acknowledge_grant(&mut self.tables.functions, id);
        // The first acknowledgement of a new sandbox ends its creation.
        if let Some(timing) = self.tables.sandboxes.known_mut(id).and_then(|sandbox| sandbox.timing.as_mut()) {
            timing.published_us = ack.published_us;
            timing.net_dataplane_us = ack.published_us.map(|at| read_us.saturating_sub(at).saturating_sub(ack.own_us));
            self.sandboxes().end_creation(id, CreationOutcome::Ready);
        }
        None
    }

    /// A data plane found that a sandbox does not work. The sandbox is deleted even without a grant, because the grant
    /// may have been returned since, or may not be claimed yet after a restart; but not if another data plane holds it,
    /// about which this one knows nothing. In either case the data plane is told that the sandbox is gone, because it
    /// never forgets one by itself, unless other invocations run in what it holds: then the sandbox is drained.
    fn on_endpoint_failure(&mut self, key: DataPlaneKey, failure: &EndpointFailure) -> Option<FunctionId> {
        let id = failure.sandbox;
        let Some(sandbox) = self.tables.sandboxes.get(id) else {
            self.on_failure_of_unknown(key, failure);
            return None;
        };
        let (is_held_here, is_held) = (sandbox.is_granted_to(key), sandbox.grant().is_some());
        let was_granted = !matches!(sandbox.state(), SandboxState::Starting | SandboxState::Terminating);
        if (is_held && !is_held_here) || !was_granted || sandbox.function() != failure.function {
            self.grants().send_gone(key, failure.function, id);
            return None;
        }
        let function = sandbox.function();
        let was_in_service = matches!(sandbox.state(), SandboxState::Ready | SandboxState::Unclaimed);
        tracing::warn!(sandbox = %id, cause = failure.cause, "a data plane could not reach a sandbox");
        self.context.metrics.endpoint_failures.inc();
        // While its node is suspect that is the node's fault, and one that was retired had worked.
        if was_in_service && !failure.is_retired {
            self.sandboxes().backoff().on_end_of_service(id, Source::DataPlane(key), &failure.cause);
        }
        if failure.drains && is_held_here {
            self.sandboxes().drain_retired(id);
        } else {
            self.grants().send_gone(key, failure.function, id);
            self.grants().end_grant(id);
            self.sandboxes().delete(id);
        }
        Some(function)
    }

    /// The same of a sandbox that is not in the tables.
    fn on_failure_of_unknown(&mut self, key: DataPlaneKey, failure: &EndpointFailure) {
        let id = failure.sandbox;
        let is_expected = id.epoch() < self.context.term.epoch && self.recovery.expects_sandboxes();
        match (is_expected, failure.drains) {
            // The data plane claimed it: it is granted when its worker has reported it, and then reported broken again.
            (true, true) => return,
            (true, false) => self.recovery.note_broken(key, id),
            (false, _) => self.recovery().give_up_unknown(&[id]),
        }
        self.grants().send_gone(key, failure.function, id);
    }
}

/// Returns true if a data plane has waiting invocations that nothing serves, and there are free sandboxes, which may be
/// granted whatever the policy.
fn has_free_for_unmet(function: &Function, key: DataPlaneKey) -> bool {
    !function.free().is_empty() && function.load(key).is_some_and(|load| load.unmet() > 0)
}
