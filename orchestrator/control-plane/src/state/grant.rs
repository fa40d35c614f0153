//! Granting sandboxes to data planes, and what they say of them.
//!
//! All slots of a sandbox are granted to one data plane at a time, so that their sum never exceeds its concurrency. A slot
//! is free again only after its holder has said so.

use std::{collections::BTreeSet, time::Duration};

use api::wire;
use model::{EndpointState, FunctionId, MAX_CONCURRENCY, SandboxId};

use super::{
    Cluster, DataPlaneChange, Now, State,
    data_plane::{DataPlaneKey, FunctionLoad},
    sandbox::{Grant, SandboxState},
    timer::SandboxTimer,
};

/// A data plane that has returned says within this time what it runs: until then its busy slots look idle, and would be
/// asked back first.
const RETURN_GRACE_US: u64 = 250_000;

impl Cluster {
    fn first_free(&self, id: FunctionId) -> Option<SandboxId> {
        self.functions.get(id)?.free.first().copied()
    }

    /// The connected data plane with the most waiting invocations of a function that nothing sent so far will serve.
    fn neediest(&self, id: FunctionId) -> Option<DataPlaneKey> {
        let function = self.functions.get(id)?;
        let unmet = |key| function.load(key).map_or(0, FunctionLoad::unmet);
        self.data_planes
            .connected()
            .filter(|(key, ..)| function.may_hold(*key, MAX_CONCURRENCY))
            .map(|(key, _, _)| (unmet(key), key))
            .filter(|(unmet, _)| *unmet > 0)
            .max()
            .map(|(_, key)| key)
    }

    /// The connected data plane that holds least of a function: who keeps a sandbox that nobody waits for.
    fn standby(&self, id: FunctionId) -> Option<DataPlaneKey> {
        let function = self.functions.get(id)?;
        let held = |key| function.load(key).map_or(0, |load| load.held);
        let connected = self.data_planes.connected().filter(|(key, ..)| function.may_hold(*key, MAX_CONCURRENCY));
        connected.map(|(key, _, _)| (held(key), key)).min().map(|(_, key)| key)
    }
}

impl State {
    /// Grants free sandboxes of a function to the data planes where invocations wait.
    pub(super) fn grant_to_waiting(&mut self, id: FunctionId) {
        while let Some(sandbox) = self.cluster.first_free(id)
            && let Some(holder) = self.cluster.neediest(id)
        {
            self.grant_sandbox(sandbox, holder);
        }
    }

    /// Grants free sandboxes of a function that nobody waits for, so that the next invocation finds them.
    pub(super) fn grant_in_advance(&mut self, id: FunctionId) {
        while let Some(sandbox) = self.cluster.first_free(id)
            && let Some(holder) = self.cluster.standby(id)
        {
            self.grant_sandbox(sandbox, holder);
        }
    }

    fn grant_sandbox(&mut self, id: SandboxId, holder: DataPlaneKey) {
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else { return };
        debug_assert!(sandbox.is_free(), "only a free sandbox is granted");
        let slots = sandbox.concurrency;
        sandbox.grant = Some(Grant { data_plane: holder, slots, acknowledged: false });
        self.cluster.totals.granted_slots += u64::from(slots);
        let function_id = sandbox.function;
        let Some(function) = self.cluster.functions.get_mut(function_id) else { return };
        function.note_free(id, false);
        let load = function.load_mut(holder);
        load.held += slots;
        load.under_way += slots;
        let cap_in_force = load.cap.slots.filter(|limit| load.held > *limit);
        if cap_in_force.is_some() {
            self.lift_cap(function_id, holder);
        }
        self.send_endpoint(id, EndpointState::Active);
    }

    /// Sends the newest state of a granted sandbox to its holder.
    pub(super) fn send_endpoint(&mut self, id: SandboxId, state: EndpointState) {
        let version = self.cluster.data_planes.next_version();
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else { return };
        let (Some(grant), Some(address)) = (sandbox.grant, sandbox.address) else { return };
        sandbox.version = version;
        let delta = wire::EndpointDelta {
            function: sandbox.function.0,
            sandbox: id.to_wire(),
            revision: sandbox.revision.0,
            address: address.to_string(),
            slots: grant.slots,
            state: api::state_to_wire(state).into(),
            version,
            ready_age_us: 0,
        };
        let ready_us = sandbox.ready_us;
        self.tell_data_plane(grant.data_plane, DataPlaneChange::Endpoint(delta, ready_us));
    }

    /// Takes a sandbox that is no more from the data plane that uses it, without asking.
    pub(super) fn withdraw(&mut self, id: SandboxId) {
        self.send_endpoint(id, EndpointState::Gone);
        self.end_grant(id);
    }

    /// Takes note that nobody holds a sandbox's slots any more.
    pub(super) fn end_grant(&mut self, id: SandboxId) {
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else { return };
        let Some(grant) = sandbox.grant.take() else { return };
        self.cluster.totals.granted_slots -= u64::from(grant.slots);
        let is_free = sandbox.is_free();
        if let Some(function) = self.cluster.functions.get_mut(sandbox.function) {
            function.note_free(id, is_free);
            let load = function.load_mut(grant.data_plane);
            load.held -= grant.slots;
            // It runs nothing in what it does not hold, and may say so only with its next sample.
            load.running = load.running.min(load.held);
            if !grant.acknowledged {
                load.under_way -= grant.slots;
            }
        }
    }

    /// Takes a sandbox out of service: its holder gives it back when its invocations are done, then it is ended.
    pub(super) fn drain_sandbox(&mut self, now: Now, id: SandboxId) {
        self.drain_within(now, id, self.settings.health.drain_deadline);
    }

    /// The same, with another deadline for what runs there.
    pub(super) fn drain_within(&mut self, now: Now, id: SandboxId, within: Duration) {
        let Some(sandbox) = self.cluster.sandboxes.get(&id) else { return };
        let may_be_held = sandbox.grant.is_some() || sandbox.state == SandboxState::Unclaimed;
        match sandbox.state {
            SandboxState::Draining | SandboxState::Terminating => {}
            SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed if may_be_held => {
                self.set_sandbox_state(id, SandboxState::Draining);
                self.send_endpoint(id, EndpointState::Draining);
                let deadline = now.after(within);
                self.timers.watch(deadline, id, SandboxTimer::Drain);
            }
            SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Starting => {
                self.delete_sandbox(id);
            }
        }
    }

    /// A drain took too long: whatever still runs there has had its time.
    pub(super) fn drain_overdue(&mut self, id: SandboxId) {
        if self.cluster.sandboxes.get(&id).is_some_and(|sandbox| sandbox.state == SandboxState::Draining) {
            tracing::warn!(sandbox = %id, "invocations did not end within the drain deadline; ending their sandbox");
            self.withdraw(id);
            self.delete_sandbox(id);
        }
    }

    /// A data plane says how many slots of a sandbox it holds. The function, if a decision may follow from it.
    pub(super) fn on_grant_ack(
        &mut self,
        key: DataPlaneKey,
        ack: &wire::EndpointAck,
        published_us: Option<u64>,
        read_us: u64,
    ) -> Option<FunctionId> {
        let id = SandboxId::from_wire(ack.sandbox);
        let sandbox = self.cluster.sandboxes.get_mut(&id)?;
        let grant = sandbox.grant.as_mut().filter(|grant| grant.data_plane == key)?;
        // What was said before the newest delta was read says nothing about it, also when it gives the slots back: with the
        // newest one they were granted again, and that is answered too.
        if ack.version != sandbox.version {
            return None;
        }
        let function = sandbox.function;
        if ack.slots == 0 {
            let leaves = sandbox.state == SandboxState::Draining;
            self.end_grant(id);
            if leaves {
                self.note_orderly_end(id);
                self.delete_sandbox(id);
            }
            return Some(function);
        }
        if !grant.acknowledged {
            grant.acknowledged = true;
            let slots = grant.slots;
            if let Some(function) = self.cluster.functions.get_mut(function) {
                function.load_mut(key).under_way -= slots;
            }
        }
        self.finish_timing(id, ack, published_us, read_us);
        None
    }

    /// The first acknowledgement of a new sandbox ends its creation.
    fn finish_timing(&mut self, id: SandboxId, ack: &wire::EndpointAck, published_us: Option<u64>, read_us: u64) {
        if let Some(mut timing) = self.cluster.sandboxes.get_mut(&id).and_then(|sandbox| sandbox.timing.take()) {
            timing.published_us = published_us;
            timing.net_dataplane_us = published_us.map(|at| read_us.saturating_sub(at).saturating_sub(ack.own_us));
            self.record_creation(id, &timing, "ready");
        }
    }

    /// Compares what a data plane says it holds with what is believed, when it (re)connects; the functions of what it
    /// holds no more, and of what lies free. Those of what it held while it was away are decided on a little later. A new
    /// process knows nothing of the invocations that its predecessor began, and these may still run: what was granted to it
    /// is ended, never granted again.
    pub(super) fn reconcile_grants(
        &mut self,
        now: Now,
        key: DataPlaneKey,
        held: &[wire::HeldGrant],
        is_new_process: bool,
    ) -> Vec<FunctionId> {
        let named: BTreeSet<u64> = held.iter().map(|grant| grant.sandbox).collect();
        let lost: Vec<_> = self
            .cluster
            .sandboxes
            .iter()
            .filter(|(id, sandbox)| {
                sandbox.grant.is_some_and(|grant| grant.data_plane == key) && !named.contains(&id.to_wire())
            })
            .map(|(id, sandbox)| (*id, sandbox.function))
            .collect();
        for (id, _) in &lost {
            let id = *id;
            if is_new_process {
                self.delete_sandbox(id);
            }
            self.end_grant(id);
            if self.cluster.sandboxes.get(&id).is_some_and(|sandbox| sandbox.state == SandboxState::Draining) {
                self.delete_sandbox(id);
            }
        }
        let (mut touched, mut back): (Vec<_>, _) =
            (lost.into_iter().map(|(_, function)| function).collect(), Vec::new());
        for (id, function) in self.cluster.functions.iter_mut() {
            let mut is_back = false;
            // Its limits, demand and acknowledgements belong to the old connection.
            if function.loads.iter().any(|(load, _)| *load == key) {
                let load = function.load_mut(key);
                (load.waiting, load.running, load.cap) = (0, 0, super::data_plane::GrantCap::default());
                is_back = std::mem::take(&mut load.silent) && load.held > 0;
                if is_back {
                    load.cap.not_before_us = now.us + RETURN_GRACE_US;
                }
            }
            if is_back {
                back.push(id);
            } else if !function.free.is_empty() {
                touched.push(id);
            }
        }
        back.into_iter().for_each(|id| self.decide_by(id, now.us + RETURN_GRACE_US));
        if !self.recovery.expects_sandboxes() {
            let ids = held.iter().map(|grant| SandboxId::from_wire(grant.sandbox));
            let unknown: Vec<_> = ids.filter(|id| !self.cluster.sandboxes.contains_key(id)).collect();
            self.give_up_unknown(&unknown);
        }
        for grant in held {
            self.confirm_grant(now, key, grant);
        }
        touched
    }

    /// A data plane holds slots of a sandbox: confirm the grant, take note of it, or say that the sandbox is no more.
    pub(super) fn confirm_grant(&mut self, now: Now, key: DataPlaneKey, held: &wire::HeldGrant) {
        let id = SandboxId::from_wire(held.sandbox);
        let Some(sandbox) = self.cluster.sandboxes.get_mut(&id) else {
            return self.claim_of_unknown(key, held);
        };
        let may_be_held = match sandbox.state {
            SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Draining => true,
            SandboxState::Starting | SandboxState::Terminating => false,
        };
        let slots = held.slots.min(sandbox.concurrency);
        let is_away = self.cluster.data_planes.get(key).is_none_or(|known| known.session.is_none());
        let can_count =
            self.cluster.functions.get(sandbox.function).is_none_or(|function| function.may_hold(key, slots));
        match sandbox.grant {
            Some(grant) if grant.data_plane != key => return self.send_gone(key, held),
            Some(_) => {}
            None if slots == 0 || !may_be_held || sandbox.function.0 != held.function => {
                return self.send_gone(key, held);
            }
            None if !can_count => {
                self.send_gone(key, held);
                return self.delete_sandbox(id);
            }
            None => {
                sandbox.grant = Some(Grant { data_plane: key, slots, acknowledged: true });
                self.cluster.totals.granted_slots += u64::from(slots);
                let function_id = sandbox.function;
                if let Some(function) = self.cluster.functions.get_mut(function_id) {
                    function.note_free(id, false);
                    let load = function.load_mut(key);
                    load.held += slots;
                    // It may have left again since it claimed them.
                    load.silent |= is_away;
                }
                self.end_waiting_for_claims(now, id);
            }
        }
        let state = match self.cluster.sandboxes.get(&id).map(|sandbox| sandbox.state) {
            Some(SandboxState::Draining) => EndpointState::Draining,
            Some(SandboxState::Suspended) => EndpointState::Suspended,
            Some(SandboxState::Ready) => EndpointState::Active,
            Some(SandboxState::Starting | SandboxState::Unclaimed | SandboxState::Terminating) | None => {
                EndpointState::Gone
            }
        };
        self.send_endpoint(id, state);
    }

    /// A data plane holds slots of a sandbox that is not known: it may be on a worker that is still awaited.
    fn claim_of_unknown(&mut self, key: DataPlaneKey, held: &wire::HeldGrant) {
        if !self.recovery.expects_sandboxes() || !self.recovery.claim(key, *held) {
            self.send_gone(key, held);
        }
    }

    pub(super) fn send_gone(&mut self, key: DataPlaneKey, held: &wire::HeldGrant) {
        let delta = wire::EndpointDelta {
            function: held.function,
            sandbox: held.sandbox,
            revision: 0,
            address: String::new(),
            slots: 0,
            state: api::state_to_wire(EndpointState::Gone).into(),
            version: self.cluster.data_planes.next_version(),
            ready_age_us: 0,
        };
        self.tell_data_plane(key, DataPlaneChange::Endpoint(delta, 0));
    }
}
