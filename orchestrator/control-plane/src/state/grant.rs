//! Lending sandboxes to data planes, and what they say of them.
//!
//! All slots of a sandbox are lent to one data plane at a time, so that their sum never exceeds its concurrency. A slot
//! is free again only after its holder has said so.

use std::{collections::BTreeSet, time::Duration};

use api::wire;
use model::{EndpointState, FunctionId, MAX_CONCURRENCY, SandboxId};

use super::{
    DataPlaneChange, Now, State,
    data_plane::{DataPlaneKey, Level},
    sandbox::{Loan, Standing},
    timer::SandboxTimer,
};

impl State {
    /// Lends free sandboxes of a function to the data planes where invocations wait.
    pub(super) fn lend_to_waiting(&mut self, id: FunctionId) {
        while let Some(sandbox) = self.first_free(id)
            && let Some(borrower) = self.neediest(id)
        {
            self.lend(sandbox, borrower);
        }
    }

    /// Lends free sandboxes of a function that nobody waits for, so that the next invocation finds them.
    pub(super) fn lend_in_advance(&mut self, id: FunctionId) {
        while let Some(sandbox) = self.first_free(id)
            && let Some(borrower) = self.standby(id)
        {
            self.lend(sandbox, borrower);
        }
    }

    fn first_free(&self, id: FunctionId) -> Option<SandboxId> {
        self.functions.get(id)?.free.first().copied()
    }

    /// The connected data plane with the most waiting invocations of a function that nothing sent so far will serve.
    fn neediest(&self, id: FunctionId) -> Option<DataPlaneKey> {
        let function = self.functions.get(id)?;
        let unmet = |key| function.level(key).map_or(0, Level::unmet);
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
        let held = |key| function.level(key).map_or(0, |level| level.held);
        let connected = self.data_planes.connected().filter(|(key, ..)| function.may_hold(*key, MAX_CONCURRENCY));
        connected.map(|(key, _, _)| (held(key), key)).min().map(|(_, key)| key)
    }

    fn lend(&mut self, id: SandboxId, borrower: DataPlaneKey) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        debug_assert!(sandbox.is_free(), "only a free sandbox is lent");
        let slots = sandbox.concurrency;
        sandbox.loan = Some(Loan { data_plane: borrower, slots, acknowledged: false });
        self.totals.slots_lent += u64::from(slots);
        let function_id = sandbox.function;
        let Some(function) = self.functions.get_mut(function_id) else { return };
        function.note_free(id, false);
        let level = function.level_mut(borrower);
        level.held += slots;
        level.under_way += slots;
        let standing_limit = level.limit.slots.filter(|limit| level.held > *limit);
        if standing_limit.is_some() {
            self.lift_limit(function_id, borrower);
        }
        self.send_endpoint(id, EndpointState::Active);
    }

    /// Sends the newest state of a lent sandbox to its holder.
    pub(super) fn send_endpoint(&mut self, id: SandboxId, state: EndpointState) {
        let version = self.data_planes.next_version();
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let (Some(loan), Some(address)) = (sandbox.loan, sandbox.address) else { return };
        sandbox.version = version;
        let delta = wire::EndpointDelta {
            function: sandbox.function.0,
            sandbox: id.to_wire(),
            revision: sandbox.revision.0,
            address: address.to_string(),
            slots: loan.slots,
            state: api::state_to_wire(state).into(),
            version,
            ready_age_us: 0,
        };
        let ready_us = sandbox.ready_us;
        self.tell_data_plane(loan.data_plane, DataPlaneChange::Endpoint(delta, ready_us));
    }

    /// Takes a sandbox that is no more from the data plane that uses it, without asking.
    pub(super) fn withdraw(&mut self, id: SandboxId) {
        self.send_endpoint(id, EndpointState::Gone);
        self.end_loan(id);
    }

    /// Takes note that nobody holds a sandbox's slots any more.
    pub(super) fn end_loan(&mut self, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.get_mut(&id) else { return };
        let Some(loan) = sandbox.loan.take() else { return };
        self.totals.slots_lent -= u64::from(loan.slots);
        let is_free = sandbox.is_free();
        if let Some(function) = self.functions.get_mut(sandbox.function) {
            function.note_free(id, is_free);
            let level = function.level_mut(loan.data_plane);
            level.held -= loan.slots;
            // It runs nothing in what it does not hold, and may say so only with its next sample.
            level.running = level.running.min(level.held);
            if !loan.acknowledged {
                level.under_way -= loan.slots;
            }
        }
    }

    /// Takes a sandbox out of service: its holder gives it back when its invocations are done, then it is ended.
    pub(super) fn drain_sandbox(&mut self, now: Now, id: SandboxId) {
        self.drain_within(now, id, self.settings.health.drain_deadline);
    }

    /// The same, with another deadline for what runs there.
    pub(super) fn drain_within(&mut self, now: Now, id: SandboxId, within: Duration) {
        let Some(sandbox) = self.sandboxes.get(&id) else { return };
        let may_be_held = sandbox.loan.is_some() || sandbox.standing == Standing::Unclaimed;
        match sandbox.standing {
            Standing::Draining | Standing::Deleting => {}
            Standing::Ready | Standing::Suspended | Standing::Unclaimed if may_be_held => {
                self.set_standing(id, Standing::Draining);
                self.send_endpoint(id, EndpointState::Draining);
                let deadline = now.after(within);
                self.timers.watch(deadline, id, SandboxTimer::Drain);
            }
            Standing::Ready | Standing::Suspended | Standing::Unclaimed | Standing::Starting => {
                self.delete_sandbox(id);
            }
        }
    }

    /// A drain took too long: whatever still runs there has had its time.
    pub(super) fn drain_overdue(&mut self, id: SandboxId) {
        if self.sandboxes.get(&id).is_some_and(|sandbox| sandbox.standing == Standing::Draining) {
            tracing::warn!(sandbox = %id, "invocations did not end within the drain deadline; ending their sandbox");
            self.withdraw(id);
            self.delete_sandbox(id);
        }
    }

    /// A data plane says how many slots of a sandbox it holds. The function, if a decision may follow from it.
    pub(super) fn take_ack(
        &mut self,
        key: DataPlaneKey,
        ack: &wire::EndpointAck,
        published_us: Option<u64>,
        read_us: u64,
    ) -> Option<FunctionId> {
        let id = SandboxId::from_wire(ack.sandbox);
        let sandbox = self.sandboxes.get_mut(&id)?;
        let loan = sandbox.loan.as_mut().filter(|loan| loan.data_plane == key)?;
        // What was said before the newest delta was read says nothing about it, also when it gives the slots back: with the
        // newest one they were lent again, and that is answered too.
        if ack.version != sandbox.version {
            return None;
        }
        let function = sandbox.function;
        if ack.slots == 0 {
            let leaves = sandbox.standing == Standing::Draining;
            self.end_loan(id);
            if leaves {
                self.note_orderly_end(id);
                self.delete_sandbox(id);
            }
            return Some(function);
        }
        if !loan.acknowledged {
            loan.acknowledged = true;
            let slots = loan.slots;
            if let Some(function) = self.functions.get_mut(function) {
                function.level_mut(key).under_way -= slots;
            }
        }
        self.finish_timing(id, ack, published_us, read_us);
        None
    }

    /// The first acknowledgement of a new sandbox ends its creation.
    fn finish_timing(&mut self, id: SandboxId, ack: &wire::EndpointAck, published_us: Option<u64>, read_us: u64) {
        if let Some(mut timing) = self.sandboxes.get_mut(&id).and_then(|sandbox| sandbox.timing.take()) {
            timing.published_us = published_us;
            timing.net_dataplane_us = published_us.map(|at| read_us.saturating_sub(at).saturating_sub(ack.own_us));
            self.record_creation(id, &timing, "ready");
        }
    }

    /// Compares what a data plane says it holds with what is believed, when it (re)connects; the functions of what it
    /// holds no more, of what it held while it was away, and of what lies free. A new process knows nothing of the invocations that its predecessor began, and these may still
    /// run: what was lent to it is ended, never lent again.
    pub(super) fn reconcile_loans(
        &mut self,
        now: Now,
        key: DataPlaneKey,
        held: &[wire::HeldGrant],
        is_new_process: bool,
    ) -> Vec<FunctionId> {
        let named: BTreeSet<u64> = held.iter().map(|grant| grant.sandbox).collect();
        let lost: Vec<_> = self
            .sandboxes
            .iter()
            .filter(|(id, sandbox)| {
                sandbox.loan.is_some_and(|loan| loan.data_plane == key) && !named.contains(&id.to_wire())
            })
            .map(|(id, sandbox)| (*id, sandbox.function))
            .collect();
        for (id, _) in &lost {
            let id = *id;
            if is_new_process {
                self.delete_sandbox(id);
            }
            self.end_loan(id);
            if self.sandboxes.get(&id).is_some_and(|sandbox| sandbox.standing == Standing::Draining) {
                self.delete_sandbox(id);
            }
        }
        let mut touched: Vec<_> = lost.into_iter().map(|(_, function)| function).collect();
        for (id, function) in self.functions.iter_mut() {
            let mut is_back = !function.free.is_empty();
            // Its limits, demand and acknowledgements belong to the old connection.
            if function.levels.iter().any(|(level, _)| *level == key) {
                let level = function.level_mut(key);
                (level.waiting, level.running, level.limit) = (0, 0, super::data_plane::Limit::default());
                is_back |= std::mem::take(&mut level.silent) && level.held > 0;
            }
            if is_back {
                touched.push(id);
            }
        }
        if !self.recovery.expects_sandboxes() {
            let ids = held.iter().map(|grant| SandboxId::from_wire(grant.sandbox));
            let unknown: Vec<_> = ids.filter(|id| !self.sandboxes.contains_key(id)).collect();
            self.give_up_unknown(&unknown);
        }
        for grant in held {
            self.confirm_loan(now, key, grant);
        }
        touched
    }

    /// A data plane holds slots of a sandbox: confirm the loan, take note of it, or say that the sandbox is no more.
    pub(super) fn confirm_loan(&mut self, now: Now, key: DataPlaneKey, grant: &wire::HeldGrant) {
        let id = SandboxId::from_wire(grant.sandbox);
        let Some(sandbox) = self.sandboxes.get_mut(&id) else {
            return self.claim_of_unknown(key, grant);
        };
        let may_be_held = match sandbox.standing {
            Standing::Ready | Standing::Suspended | Standing::Unclaimed | Standing::Draining => true,
            Standing::Starting | Standing::Deleting => false,
        };
        let slots = grant.slots.min(sandbox.concurrency);
        let can_count = self.functions.get(sandbox.function).is_none_or(|function| function.may_hold(key, slots));
        match sandbox.loan {
            Some(loan) if loan.data_plane != key => return self.send_gone(key, grant),
            Some(_) => {}
            None if slots == 0 || !may_be_held || sandbox.function.0 != grant.function => {
                return self.send_gone(key, grant);
            }
            None if !can_count => {
                self.send_gone(key, grant);
                return self.delete_sandbox(id);
            }
            None => {
                sandbox.loan = Some(Loan { data_plane: key, slots, acknowledged: true });
                self.totals.slots_lent += u64::from(slots);
                let function_id = sandbox.function;
                if let Some(function) = self.functions.get_mut(function_id) {
                    function.note_free(id, false);
                    function.level_mut(key).held += slots;
                }
                self.end_waiting_for_claims(now, id);
            }
        }
        let state = match self.sandboxes.get(&id).map(|sandbox| sandbox.standing) {
            Some(Standing::Draining) => EndpointState::Draining,
            Some(Standing::Suspended) => EndpointState::Suspended,
            Some(Standing::Ready) => EndpointState::Active,
            Some(Standing::Starting | Standing::Unclaimed | Standing::Deleting) | None => EndpointState::Gone,
        };
        self.send_endpoint(id, state);
    }

    /// A data plane holds slots of a sandbox that is not known: it may be on a worker that is still awaited.
    fn claim_of_unknown(&mut self, key: DataPlaneKey, grant: &wire::HeldGrant) {
        if !self.recovery.expects_sandboxes() || !self.recovery.claim(key, *grant) {
            self.send_gone(key, grant);
        }
    }

    pub(super) fn send_gone(&mut self, key: DataPlaneKey, grant: &wire::HeldGrant) {
        let delta = wire::EndpointDelta {
            function: grant.function,
            sandbox: grant.sandbox,
            revision: 0,
            address: String::new(),
            slots: 0,
            state: api::state_to_wire(EndpointState::Gone).into(),
            version: self.data_planes.next_version(),
            ready_age_us: 0,
        };
        self.tell_data_plane(key, DataPlaneChange::Endpoint(delta, 0));
    }
}
