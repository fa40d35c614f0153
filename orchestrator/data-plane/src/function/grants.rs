//! The grants of one function: deltas from the control plane, caps, returned grants, and failed sandboxes.

use std::sync::Arc;

use model::{Endpoint, EndpointState, SandboxId};

use super::{
    report::SandboxFailure,
    slot::Usage,
    state::{Effects, FunctionState},
};
use crate::upstream::Sandbox;

/// The order of deltas: first the stream they came on, then their version, since each stream restarts versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Number of the stream.
    pub(crate) stream: u64,
    /// Version within the stream.
    pub(crate) version: u64,
}

/// A validated endpoint delta.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delta {
    pub(crate) endpoint: Endpoint,
    /// Granted slots of the sandbox.
    pub(crate) slots: u32,
    pub(crate) state: EndpointState,
    pub(crate) stamp: Stamp,
    /// Age of the sandbox since it became ready, microseconds, whichever data plane held it.
    pub(crate) ready_age_us: u64,
}

/// A cap on the granted slots of a function in this data plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantCap {
    /// Greatest number of slots to keep.
    pub(crate) slots: u32,
    /// Only grants idle for this long are returned at once.
    pub(crate) min_idle_ms: u64,
    /// Grants are also returned as their slots become free.
    pub(crate) drain: bool,
    pub(crate) version: u64,
}

/// The local lifecycle of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantState {
    /// Slots may be used.
    Active,
    /// No new invocation for now: the node is suspect.
    Suspended,
    /// The control plane drains the sandbox: no new invocation, and the grant ends with the running ones.
    Draining,
    /// As `Draining`, but by decision of this data plane: to meet a cap, or because the sandbox may not exist any more.
    Returning,
    /// The sandbox does not work. The grant stays until the control plane confirms that the sandbox is gone.
    Failed,
    /// No new invocation, but others still run. At least one slot stays held until the control plane drains the
    /// sandbox: if the report were lost, the sandbox would be granted to another data plane.
    Retired,
}

/// The grant of one sandbox.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) state: GrantState,
    /// Of the newest delta on this stream; `None`, which is older than any, before the first.
    stamp: Option<Stamp>,
    /// Slots last reported as held; of a failed sandbox, the invocations that still run there.
    reported: u32,
    /// Slots in use by invocations that no client waits for.
    abandoned: u32,
}

impl Grant {
    /// The failure to report again for a sandbox that failed or was retired before `event`.
    fn failure(&self, event: &str) -> Option<SandboxFailure> {
        match self.state {
            GrantState::Failed => Some(SandboxFailure::broken(format!("it failed before {event}"))),
            GrantState::Retired => Some(SandboxFailure::retired(format!("it was retired before {event}"))),
            GrantState::Active | GrantState::Suspended | GrantState::Draining | GrantState::Returning => None,
        }
    }

    /// Returns true if the grant is neither ending nor failed.
    fn is_kept(&self) -> bool {
        matches!(self.state, GrantState::Active | GrantState::Suspended)
    }
}

impl FunctionState {
    /// Applies the newest state of one sandbox. Older deltas are ignored; a repeated one is acknowledged again.
    pub(crate) fn apply(&mut self, delta: Delta, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        let id = delta.endpoint.sandbox;
        if self.grants.get(&id).is_some_and(|grant| Some(delta.stamp) < grant.stamp) {
            return;
        }
        match delta.state {
            EndpointState::Gone => self.forget(id, effects),
            EndpointState::Draining => self.set_state(id, GrantState::Draining, Some(delta.stamp)),
            // A grant without slots, or of a deregistered function, only lets running invocations finish.
            EndpointState::Active | EndpointState::Suspended if self.removed || delta.slots == 0 => {
                self.set_state(id, GrantState::Draining, Some(delta.stamp));
            }
            EndpointState::Active => self.take_grant(delta, GrantState::Active, now_us),
            EndpointState::Suspended => self.take_grant(delta, GrantState::Suspended, now_us),
        }
        self.reconcile(id, effects);
        let slots = self.slots_of(id);
        if let Some(grant) = self.grants.get_mut(&id) {
            grant.reported = slots;
        }
        // Acknowledged whatever it changed: the control plane reuses revoked slots only after that.
        self.report.acknowledge(id, slots, delta.stamp.version, now_us);
        self.serve_queue(effects);
        self.changed(before, now_us, effects);
    }

    /// Applies a cap as far as possible now; with `drain`, the rest as slots become free.
    pub(crate) fn apply_cap(&mut self, cap: GrantCap, now_us: u64, effects: &mut Effects) {
        self.cap = cap.drain.then_some(cap);
        self.return_idle_grants(cap, now_us, effects);
        self.report.on_cap_applied(cap.version, self.held_slots());
        self.clear_cap_if_met();
        effects.sample |= self.cap.is_some() && self.begin_sampling(now_us);
        self.changed(self.load(), now_us, effects);
    }

    /// Applies an unmet cap again: grants that were idle too briefly may qualify by now.
    pub(crate) fn recheck_cap(&mut self, now_us: u64, effects: &mut Effects) {
        if let Some(cap) = self.cap {
            self.return_idle_grants(cap, now_us, effects);
            self.clear_cap_if_met();
            self.changed(self.load(), now_us, effects);
        }
    }

    /// Returns every grant, those in use as their invocations end.
    pub(crate) fn return_all_grants(&mut self, now_us: u64, effects: &mut Effects) {
        for id in self.grants.keys().copied().collect::<Vec<_>>() {
            self.set_state(id, GrantState::Returning, None);
            self.reconcile(id, effects);
        }
        if self.removed {
            // Failed sandboxes of a deregistered function are not awaited: they would keep it in the table.
            self.grants.retain(|_, grant| grant.state != GrantState::Failed);
        }
        self.changed(self.load(), now_us, effects);
    }

    /// Returns the grant of a sandbox that may not exist any more, without reporting a failure. Returns false if it was
    /// not usable anyway.
    pub(crate) fn return_grant(&mut self, sandbox: &Arc<Sandbox>, now_us: u64, effects: &mut Effects) -> bool {
        let id = sandbox.id();
        if !self.grants.get(&id).is_some_and(|grant| grant.is_kept() && Arc::ptr_eq(&grant.sandbox, sandbox)) {
            return false;
        }
        self.set_state(id, GrantState::Returning, None);
        self.reconcile(id, effects);
        self.changed(self.load(), now_us, effects);
        true
    }

    /// Sandboxes that can get invocations, now or once they have a free slot and are active again.
    pub(crate) fn usable_sandboxes(&self) -> Vec<(Arc<Sandbox>, Usage)> {
        let kept = self.grants.iter().filter(|(_, grant)| grant.is_kept());
        kept.map(|(&id, grant)| (grant.sandbox.clone(), self.usage(id))).collect()
    }

    pub(crate) fn usage(&self, id: SandboxId) -> Usage {
        match self.slots.in_use(id) {
            0 => Usage::Idle,
            in_use if in_use < self.slots.held(id).unwrap_or(0) => Usage::Partial,
            _ => Usage::Full,
        }
    }

    /// Drops all grants because the cluster was left; nothing is reported. Running invocations may finish.
    pub(crate) fn detach(&mut self, now_us: u64, effects: &mut Effects) {
        self.detached = true;
        for (id, grant) in std::mem::take(&mut self.grants) {
            self.slots.remove(id);
            effects.left.push(grant.sandbox);
        }
        self.cap = None;
        // Its waiting invocations would wait for sandboxes of another cluster.
        self.remove(now_us, effects);
    }

    /// Stops using a sandbox that does not work and reports it. An invocation may still have its slot there. Returns
    /// false if it was reported before.
    ///
    /// If `failure` allows other invocations to finish, and clients wait for some, the control plane drains the
    /// sandbox. Otherwise it deletes it at once.
    pub(crate) fn fail(
        &mut self,
        sandbox: &Arc<Sandbox>,
        mut failure: SandboxFailure,
        now_us: u64,
        effects: &mut Effects,
    ) -> bool {
        let id = sandbox.id();
        let in_use = self.slots.in_use(id);
        let Some(grant) = self.grants.get_mut(&id).filter(|grant| Arc::ptr_eq(&grant.sandbox, sandbox)) else {
            return false;
        };
        // The caller that finds a failure holds a slot itself; one that retires a sandbox is among the abandoned.
        let own = u32::from(!failure.retired || grant.abandoned == 0);
        failure.drains &= in_use > grant.abandoned + own;
        match grant.state {
            GrantState::Failed => return false,
            // It is being drained already.
            GrantState::Draining | GrantState::Retired if failure.drains => return false,
            GrantState::Active
            | GrantState::Suspended
            | GrantState::Returning
            | GrantState::Draining
            | GrantState::Retired => {}
        }
        if failure.drains {
            grant.state = GrantState::Retired;
            // No slot can be acquired any more, but those in use stay accounted.
            self.slots.insert(id, 0, now_us / 1000);
            self.slots.set_open(id, false);
            grant.reported = self.slots.in_use(id);
        } else {
            grant.state = GrantState::Failed;
            grant.reported = self.slots.remove(id).unwrap_or(0);
        }
        self.report.failed(id, grant.reported, failure);
        effects.left.push(sandbox.clone());
        self.changed(self.load(), now_us, effects);
        true
    }

    /// Counts an abandoned invocation in `sandbox`, or its end.
    pub(crate) fn note_abandoned(&mut self, sandbox: &Arc<Sandbox>, has_ended: bool) {
        let grant = self.grants.get_mut(&sandbox.id()).filter(|grant| Arc::ptr_eq(&grant.sandbox, sandbox));
        if let Some(grant) = grant {
            grant.abandoned = if has_ended { grant.abandoned.saturating_sub(1) } else { grant.abandoned + 1 };
        }
    }

    /// Returns true if a sandbox may run several invocations at once.
    pub(crate) fn is_shared(&self, id: SandboxId) -> bool {
        self.slots.in_use(id).max(self.slots.held(id).unwrap_or(0)) > 1
    }

    /// Prepares for a new stream, on which versions restart, and returns the slots held of each sandbox for its hello.
    pub(crate) fn resync(&mut self, effects: &mut Effects) -> Vec<(SandboxId, u32)> {
        let mut held = Vec::new();
        self.report.clear();
        self.cap = None;
        for id in self.grants.keys().copied().collect::<Vec<_>>() {
            let slots = self.slots_of(id);
            let Some(grant) = self.grants.get_mut(&id) else { continue };
            // Versions of another stream, perhaps of another control plane, do not order deltas of this one.
            grant.stamp = None;
            grant.reported = slots;
            let failure = grant.failure("this connection");
            // A failed sandbox counts as held until it is gone. Otherwise the control plane could grant it again before
            // it receives the report.
            let least = u32::from(failure.is_some());
            held.push((id, slots.max(least)));
            if let Some(failure) = failure {
                self.report.failed(id, slots, failure);
            }
        }
        if self.load() > 0 {
            self.report.require_demand_report();
        }
        effects.report = effects.report.max(self.report.mark_queued());
        held
    }

    /// Held slots of this function. Ending grants count while they are in use, failed ones do not.
    pub(crate) fn held_slots(&self) -> u32 {
        let working = self.grants.iter().filter(|(_, grant)| grant.state != GrantState::Failed);
        working.map(|(&id, _)| self.slots_of(id)).fold(0, u32::saturating_add)
    }

    /// Number of granted sandboxes, and of slots that are free.
    pub(crate) fn supply(&self) -> (usize, u64) {
        (self.grants.len(), self.slots.free_total())
    }

    /// Frees the slot of an invocation that ended.
    pub(super) fn free_slot(&mut self, id: SandboxId, now_us: u64) {
        match self.grants.get_mut(&id) {
            Some(grant) if grant.state == GrantState::Failed => grant.reported = grant.reported.saturating_sub(1),
            _ => {
                self.slots.release(id, now_us / 1000);
                self.return_beyond_cap(id);
            }
        }
    }

    /// After a slot became free: ends the grant instead of using it again if the cap is exceeded.
    fn return_beyond_cap(&mut self, id: SandboxId) {
        if let Some(cap) = self.cap
            && self.grants.get(&id).is_some_and(Grant::is_kept)
            && self.kept_slots() > u64::from(cap.slots)
        {
            self.set_state(id, GrantState::Returning, None);
        }
    }

    /// After a change of a grant: ends it if it is leaving and unused, and reports if fewer slots are held.
    pub(super) fn reconcile(&mut self, id: SandboxId, effects: &mut Effects) {
        let slots = self.slots_of(id);
        let Some(grant) = self.grants.get_mut(&id) else { return };
        let leaving = matches!(grant.state, GrantState::Draining | GrantState::Returning);
        if slots < grant.reported && grant.state != GrantState::Failed {
            grant.reported = slots;
            self.report.slots_returned(id, slots, grant.stamp.map(|stamp| stamp.version));
        }
        if leaving && slots == 0 {
            self.slots.remove(id);
            effects.left.extend(self.grants.remove(&id).map(|grant| grant.sandbox));
        }
        self.clear_cap_if_met();
    }

    fn take_grant(&mut self, delta: Delta, state: GrantState, now_us: u64) {
        let id = delta.endpoint.sandbox;
        let (config, reported) = (self.config, delta.slots);
        let grant = self.grants.entry(id).or_insert_with(|| {
            // An age and not a time came, because clocks of different machines are never subtracted.
            let sandbox = Arc::new(Sandbox::new(delta.endpoint, &config, now_us.saturating_sub(delta.ready_age_us)));
            Grant { sandbox, state, stamp: Some(delta.stamp), reported, abandoned: 0 }
        });
        // The control plane granted it again before it received the report of the failure.
        if let Some(failure) = grant.failure("it was granted again") {
            grant.stamp = grant.stamp.max(Some(delta.stamp));
            self.report.failed(id, grant.reported, failure);
            return;
        }
        self.slots.insert(id, delta.slots, now_us / 1000);
        self.set_state(id, state, Some(delta.stamp));
    }

    fn set_state(&mut self, id: SandboxId, state: GrantState, stamp: Option<Stamp>) {
        if let Some(grant) = self.grants.get_mut(&id)
            && grant.state != GrantState::Failed
        {
            grant.state = state;
            grant.stamp = grant.stamp.max(stamp);
            self.slots.set_open(id, state == GrantState::Active);
        }
    }

    fn forget(&mut self, id: SandboxId, effects: &mut Effects) {
        self.slots.remove(id);
        effects.gone.extend(self.grants.remove(&id).map(|grant| grant.sandbox));
    }

    /// Slots of one sandbox that no other data plane may use.
    fn slots_of(&self, id: SandboxId) -> u32 {
        let in_use = self.slots.in_use(id);
        match self.grants.get(&id).map(|grant| grant.state) {
            Some(GrantState::Active | GrantState::Suspended) => self.slots.held(id).unwrap_or(0).max(in_use),
            Some(GrantState::Draining | GrantState::Returning) => in_use,
            Some(GrantState::Retired) => in_use.max(1),
            Some(GrantState::Failed) => self.grants.get(&id).map_or(0, |grant| grant.reported),
            None => 0,
        }
    }

    /// Granted slots of usable sandboxes.
    fn kept_slots(&self) -> u64 {
        self.grants.iter().filter(|(_, grant)| grant.is_kept()).map(|(&id, _)| u64::from(self.slots_of(id))).sum()
    }

    fn return_idle_grants(&mut self, cap: GrantCap, now_us: u64, effects: &mut Effects) {
        let mut kept = self.kept_slots();
        while kept > u64::from(cap.slots) {
            let Some(id) = self.slots.longest_idle(cap.min_idle_ms, now_us / 1000) else { return };
            kept -= u64::from(self.slots_of(id));
            self.set_state(id, GrantState::Returning, None);
            self.reconcile(id, effects);
        }
    }

    fn clear_cap_if_met(&mut self) {
        let slots = self.held_slots();
        if let Some(cap) = self.cap
            && slots <= cap.slots
        {
            self.cap = None;
            self.report.on_cap_applied(cap.version, slots);
        }
    }
}
