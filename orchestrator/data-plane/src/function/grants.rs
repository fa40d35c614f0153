//! The sandboxes granted to this data plane: deltas of the control plane, limits, giving back, and failures.

use std::sync::Arc;

use api::wire;
use model::{Endpoint, EndpointState, SandboxId};

use super::{
    report::SandboxFailure,
    slot::Usage,
    state::{Effects, FunctionState},
};
use crate::upstream::Sandbox;

/// The order of deltas: the stream they came on, then their version. Versions begin anew with each stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp {
    /// Number of the stream.
    pub(crate) stream: u64,
    /// Version within it.
    pub(crate) version: u64,
}

/// A delta, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delta {
    /// Which sandbox, and where.
    pub(crate) endpoint: Endpoint,
    /// Slots granted.
    pub(crate) slots: u32,
    /// What may be done with it.
    pub(crate) state: EndpointState,
    /// Its place in the order.
    pub(crate) stamp: Stamp,
    /// How long ago the sandbox became ready, in microseconds, whoever held it since.
    pub(crate) ready_age_us: u64,
}

/// A limit on the slots held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantCap {
    /// Most slots to hold.
    pub(crate) slots: u32,
    /// Only what has been idle for this long is given back at once.
    pub(crate) min_idle_ms: u64,
    /// Whether slots are also given back as they become free.
    pub(crate) drain: bool,
    /// Its version.
    pub(crate) version: u64,
}

/// In what way a sandbox is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GrantState {
    /// New invocations may go there.
    Open,
    /// None for now.
    Suspended,
    /// None any more; its slots go back when the running ones are done. The control plane wants it so.
    Draining,
    /// The same, to meet a limit, or because it may not be there any more.
    Returning,
    /// It does not work; nothing goes there, and the control plane will say that it is gone.
    Failed,
    /// Nothing new goes there, but other invocations still run. One slot at least stays held until the control plane says
    /// that it is draining: if the news were lost, the sandbox would be granted to somebody else.
    Retired,
}

/// A sandbox granted to this data plane.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) state: GrantState,
    stamp: Stamp,
    /// Slots that the control plane was last told we hold; of a failed sandbox, what still runs there.
    reported: u32,
    /// Slots in use by what nobody waits for any more.
    abandoned: u32,
}

impl Grant {
    /// What is to be said again of one that failed or was retired before `event`.
    fn failure(&self, event: &str) -> Option<SandboxFailure> {
        match self.state {
            GrantState::Failed => Some(SandboxFailure::broken(format!("it failed before {event}"))),
            GrantState::Retired => Some(SandboxFailure::retired(format!("it was retired before {event}"))),
            GrantState::Open | GrantState::Suspended | GrantState::Draining | GrantState::Returning => None,
        }
    }

    /// Whether it is neither leaving nor broken.
    fn is_kept(&self) -> bool {
        matches!(self.state, GrantState::Open | GrantState::Suspended)
    }
}

impl FunctionState {
    /// Applies the newest state of one sandbox. Older ones are ignored, the same one again is answered again.
    pub(crate) fn apply(&mut self, delta: Delta, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        let id = delta.endpoint.sandbox;
        if self.grants.get(&id).is_some_and(|grant| delta.stamp < grant.stamp) {
            return;
        }
        match delta.state {
            EndpointState::Gone => self.forget(id, effects),
            EndpointState::Draining => self.set_state(id, GrantState::Draining, delta.stamp),
            EndpointState::Active | EndpointState::Suspended if self.removed || delta.slots == 0 => {
                self.set_state(id, GrantState::Draining, delta.stamp);
            }
            EndpointState::Active => self.take_grant(delta, GrantState::Open, now_us),
            EndpointState::Suspended => self.take_grant(delta, GrantState::Suspended, now_us),
        }
        self.reconcile(id, effects);
        let slots = self.slots_of(id);
        if let Some(grant) = self.grants.get_mut(&id) {
            grant.reported = slots;
        }
        self.report.acknowledge(id, slots, delta.stamp.version, now_us);
        self.serve_queue(effects);
        self.changed(before, now_us, effects);
    }

    /// Carries out a limit as far as it can be now; with `drain`, the rest as slots become free.
    pub(crate) fn apply_cap(&mut self, cap: GrantCap, now_us: u64, effects: &mut Effects) {
        self.cap = cap.drain.then_some(cap);
        self.return_idle_grants(cap, now_us, effects);
        self.report.on_cap_applied(cap.version, self.held_slots());
        self.clear_cap_if_met();
        effects.sample |= self.cap.is_some() && self.begin_sampling(now_us);
        self.changed(self.load(), now_us, effects);
    }

    /// Looks at an unmet limit again: what was idle too briefly may have been idle long enough by now.
    pub(crate) fn recheck_cap(&mut self, now_us: u64, effects: &mut Effects) {
        if let Some(cap) = self.cap {
            self.return_idle_grants(cap, now_us, effects);
            self.clear_cap_if_met();
            self.changed(self.load(), now_us, effects);
        }
    }

    /// Gives every sandbox back, those in use as they become free.
    pub(crate) fn return_all_grants(&mut self, now_us: u64, effects: &mut Effects) {
        for id in self.grants.keys().copied().collect::<Vec<_>>() {
            self.set_state(id, GrantState::Returning, Stamp::default());
            self.reconcile(id, effects);
        }
        if self.removed {
            self.grants.retain(|_, grant| grant.state != GrantState::Failed);
        }
        self.changed(self.load(), now_us, effects);
    }

    /// It is not certain that a sandbox is still there: it is given back, without a word against it.
    /// True when that is news.
    pub(crate) fn return_grant(&mut self, sandbox: &Arc<Sandbox>, now_us: u64, effects: &mut Effects) -> bool {
        let id = sandbox.id();
        if !self.grants.get(&id).is_some_and(|grant| grant.is_kept() && Arc::ptr_eq(&grant.sandbox, sandbox)) {
            return false;
        }
        self.set_state(id, GrantState::Returning, Stamp::default());
        self.reconcile(id, effects);
        self.changed(self.load(), now_us, effects);
        true
    }

    /// Sandboxes for further invocations, now or when slots of them are free and open again.
    pub(crate) fn usable_sandboxes(&self) -> Vec<(Arc<Sandbox>, Usage)> {
        let kept = self.grants.iter().filter(|(_, grant)| grant.is_kept());
        kept.map(|(&id, grant)| (grant.sandbox.clone(), self.usage(id))).collect()
    }

    /// How many slots of a sandbox are in use.
    pub(crate) fn usage(&self, id: SandboxId) -> Usage {
        match self.slots.in_use(id) {
            0 => Usage::Idle,
            in_use if in_use < self.slots.held(id).unwrap_or(0) => Usage::Partial,
            _ => Usage::Full,
        }
    }

    /// The cluster is left: its sandboxes are used no more, without a word to anybody. What runs there may end.
    pub(crate) fn detach(&mut self, now_us: u64, effects: &mut Effects) {
        self.detached = true;
        for (id, grant) in std::mem::take(&mut self.grants) {
            self.slots.remove(id);
            effects.left.push(grant.sandbox);
        }
        self.cap = None;
        self.remove(now_us, effects);
    }

    /// A sandbox does not work, in which an invocation may still have its slot: nothing goes there any more, and the control
    /// plane is told. True when that is news.
    ///
    /// Where `failing` lets other invocations end, and somebody waits for one, the control plane drains it. Otherwise it
    /// deletes it at once.
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
        // Whoever finds that it fails has a slot; one that retires it is among those that nobody waits for.
        let own = u32::from(!failure.retired || grant.abandoned == 0);
        failure.drains &= in_use > grant.abandoned + own;
        match grant.state {
            GrantState::Failed => return false,
            // It is being deleted in the same way already.
            GrantState::Draining | GrantState::Retired if failure.drains => return false,
            GrantState::Open
            | GrantState::Suspended
            | GrantState::Returning
            | GrantState::Draining
            | GrantState::Retired => {}
        }
        if failure.drains {
            grant.state = GrantState::Retired;
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

    /// Takes note of an invocation in `sandbox` that nobody waits for any more, or of its end.
    pub(crate) fn note_abandoned(&mut self, sandbox: &Arc<Sandbox>, has_ended: bool) {
        let grant = self.grants.get_mut(&sandbox.id()).filter(|grant| Arc::ptr_eq(&grant.sandbox, sandbox));
        if let Some(grant) = grant {
            grant.abandoned = if has_ended { grant.abandoned.saturating_sub(1) } else { grant.abandoned + 1 };
        }
    }

    /// Whether a sandbox runs more than one invocation at once.
    pub(crate) fn is_shared(&self, id: SandboxId) -> bool {
        self.slots.in_use(id).max(self.slots.held(id).unwrap_or(0)) > 1
    }

    /// A new stream begins: what is held now is what its hello says; deltas are numbered anew.
    pub(crate) fn resync(&mut self, function: u64, hello: &mut Vec<wire::HeldGrant>, effects: &mut Effects) {
        self.report.clear();
        self.cap = None;
        for id in self.grants.keys().copied().collect::<Vec<_>>() {
            let slots = self.slots_of(id);
            let Some(grant) = self.grants.get_mut(&id) else { continue };
            // What was said on another stream, perhaps by another control plane, counts for nothing on this one.
            grant.stamp = Stamp::default();
            grant.reported = slots;
            let failure = grant.failure("this connection");
            // Held until it is gone, or it would be granted to somebody else before the news of it is heard.
            let least = u32::from(failure.is_some());
            hello.push(wire::HeldGrant { function, sandbox: id.to_wire(), slots: slots.max(least) });
            if let Some(failure) = failure {
                self.report.failed(id, slots, failure);
            }
        }
        if self.load() > 0 {
            self.report.require_demand_report();
        }
        effects.report = effects.report.max(self.report.mark_queued());
    }

    /// Slots held of this function, those of leaving sandboxes included as long as they are in use, failed ones not.
    pub(crate) fn held_slots(&self) -> u32 {
        let working = self.grants.iter().filter(|(_, grant)| grant.state != GrantState::Failed);
        working.map(|(&id, _)| self.slots_of(id)).fold(0, u32::saturating_add)
    }

    /// Sandboxes held, and slots that could be taken now.
    pub(crate) fn supply(&self) -> (usize, u64) {
        (self.grants.len(), self.slots.free_total())
    }

    /// An invocation in a sandbox has ended.
    pub(super) fn free_slot(&mut self, id: SandboxId, now_us: u64) {
        match self.grants.get_mut(&id) {
            Some(grant) if grant.state == GrantState::Failed => grant.reported = grant.reported.saturating_sub(1),
            _ => {
                self.slots.release(id, now_us / 1000);
                self.return_beyond_cap(id);
            }
        }
    }

    /// A slot of a sandbox became free: with an unmet limit the sandbox is given back instead of used again.
    fn return_beyond_cap(&mut self, id: SandboxId) {
        if let Some(cap) = self.cap
            && self.grants.get(&id).is_some_and(Grant::is_kept)
            && self.kept_slots() > u64::from(cap.slots)
        {
            self.set_state(id, GrantState::Returning, Stamp::default());
        }
    }

    /// After a change in a sandbox: gives it back when it leaves and is free, and tells when fewer slots are held.
    pub(super) fn reconcile(&mut self, id: SandboxId, effects: &mut Effects) {
        let slots = self.slots_of(id);
        let Some(grant) = self.grants.get_mut(&id) else { return };
        let leaving = matches!(grant.state, GrantState::Draining | GrantState::Returning);
        if slots < grant.reported && grant.state != GrantState::Failed {
            grant.reported = slots;
            self.report.slots_returned(id, slots, grant.stamp.version);
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
            let sandbox = Arc::new(Sandbox::new(delta.endpoint, &config, now_us.saturating_sub(delta.ready_age_us)));
            Grant { sandbox, state, stamp: delta.stamp, reported, abandoned: 0 }
        });
        // Lent again by a control plane that the news of the failure has not reached.
        if let Some(failure) = grant.failure("it was granted again") {
            grant.stamp = grant.stamp.max(delta.stamp);
            self.report.failed(id, grant.reported, failure);
            return;
        }
        self.slots.insert(id, delta.slots, now_us / 1000);
        self.set_state(id, state, delta.stamp);
    }

    fn set_state(&mut self, id: SandboxId, state: GrantState, stamp: Stamp) {
        if let Some(grant) = self.grants.get_mut(&id)
            && grant.state != GrantState::Failed
        {
            grant.state = state;
            grant.stamp = grant.stamp.max(stamp);
            self.slots.set_open(id, state == GrantState::Open);
        }
    }

    fn forget(&mut self, id: SandboxId, effects: &mut Effects) {
        self.slots.remove(id);
        effects.gone.extend(self.grants.remove(&id).map(|grant| grant.sandbox));
    }

    /// Slots of one sandbox that nobody else may use.
    fn slots_of(&self, id: SandboxId) -> u32 {
        let in_use = self.slots.in_use(id);
        match self.grants.get(&id).map(|grant| grant.state) {
            Some(GrantState::Open | GrantState::Suspended) => self.slots.held(id).unwrap_or(0).max(in_use),
            Some(GrantState::Draining | GrantState::Returning) => in_use,
            Some(GrantState::Retired) => in_use.max(1),
            Some(GrantState::Failed) => self.grants.get(&id).map_or(0, |grant| grant.reported),
            None => 0,
        }
    }

    /// Slots granted of sandboxes that are not leaving.
    fn kept_slots(&self) -> u64 {
        self.grants.iter().filter(|(_, grant)| grant.is_kept()).map(|(&id, _)| u64::from(self.slots_of(id))).sum()
    }

    fn return_idle_grants(&mut self, cap: GrantCap, now_us: u64, effects: &mut Effects) {
        let mut kept = self.kept_slots();
        while kept > u64::from(cap.slots) {
            let Some(id) = self.slots.longest_idle(cap.min_idle_ms, now_us / 1000) else { return };
            kept -= u64::from(self.slots_of(id));
            self.set_state(id, GrantState::Returning, Stamp::default());
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
