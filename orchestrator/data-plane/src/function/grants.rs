//! The sandboxes granted to this data plane: deltas of the control plane, limits, giving back, and failures.

use std::sync::Arc;

use api::wire;
use model::{Endpoint, EndpointState, SandboxId};

use super::{
    report::Failing,
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
pub(crate) struct Limit {
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
pub(super) enum Service {
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
pub(super) struct Held {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) service: Service,
    stamp: Stamp,
    /// Slots that the control plane was last told we hold; of a failed sandbox, what still runs there.
    reported: u32,
    /// Slots in use by what nobody waits for any more.
    unwanted: u32,
}

impl Held {
    /// What is to be said again of one that failed or was retired before `event`.
    fn failing(&self, event: &str) -> Option<Failing> {
        match self.service {
            Service::Failed => Some(Failing::broken(format!("it failed before {event}"))),
            Service::Retired => Some(Failing::retired(format!("it was retired before {event}"))),
            Service::Open | Service::Suspended | Service::Draining | Service::Returning => None,
        }
    }

    /// Whether it is neither leaving nor broken.
    fn kept(&self) -> bool {
        matches!(self.service, Service::Open | Service::Suspended)
    }
}

impl FunctionState {
    /// Applies the newest state of one sandbox. Older ones are ignored, the same one again is answered again.
    pub(crate) fn apply(&mut self, delta: Delta, now_us: u64, effects: &mut Effects) {
        let before = self.level();
        let id = delta.endpoint.sandbox;
        if self.held.get(&id).is_some_and(|held| delta.stamp < held.stamp) {
            return;
        }
        match delta.state {
            EndpointState::Gone => self.forget(id, effects),
            EndpointState::Draining => self.set_service(id, Service::Draining, delta.stamp),
            EndpointState::Active | EndpointState::Suspended if self.removed || delta.slots == 0 => {
                self.set_service(id, Service::Draining, delta.stamp);
            }
            EndpointState::Active => self.take_grant(delta, Service::Open, now_us),
            EndpointState::Suspended => self.take_grant(delta, Service::Suspended, now_us),
        }
        self.settle(id, effects);
        let slots = self.slots_of(id);
        if let Some(held) = self.held.get_mut(&id) {
            held.reported = slots;
        }
        self.report.answer(id, slots, delta.stamp.version, now_us);
        self.serve_queue(effects);
        self.changed(before, now_us, effects);
    }

    /// Carries out a limit as far as it can be now; with `drain`, the rest as slots become free.
    pub(crate) fn apply_limit(&mut self, limit: Limit, now_us: u64, effects: &mut Effects) {
        self.limit = limit.drain.then_some(limit);
        self.give_back_idle(limit, now_us, effects);
        self.report.limited(limit.version, self.held_slots());
        self.end_limit_when_met();
        effects.sample |= self.limit.is_some() && self.begin_sampling(now_us);
        self.changed(self.level(), now_us, effects);
    }

    /// Looks at an unmet limit again: what was idle too briefly may have been idle long enough by now.
    pub(crate) fn review_limit(&mut self, now_us: u64, effects: &mut Effects) {
        if let Some(limit) = self.limit {
            self.give_back_idle(limit, now_us, effects);
            self.end_limit_when_met();
            self.changed(self.level(), now_us, effects);
        }
    }

    /// Gives every sandbox back, those in use as they become free.
    pub(crate) fn give_back_all(&mut self, now_us: u64, effects: &mut Effects) {
        for id in self.held.keys().copied().collect::<Vec<_>>() {
            self.set_service(id, Service::Returning, Stamp::default());
            self.settle(id, effects);
        }
        if self.removed {
            self.held.retain(|_, held| held.service != Service::Failed);
        }
        self.changed(self.level(), now_us, effects);
    }

    /// It is not certain that a sandbox is still there: it is given back, without a word against it.
    /// True when that is news.
    pub(crate) fn give_back(&mut self, sandbox: &Arc<Sandbox>, now_us: u64, effects: &mut Effects) -> bool {
        let id = sandbox.id();
        if !self.held.get(&id).is_some_and(|held| held.kept() && Arc::ptr_eq(&held.sandbox, sandbox)) {
            return false;
        }
        self.set_service(id, Service::Returning, Stamp::default());
        self.settle(id, effects);
        self.changed(self.level(), now_us, effects);
        true
    }

    /// Sandboxes for further invocations, now or when slots of them are free and open again.
    pub(crate) fn kept_sandboxes(&self) -> Vec<(Arc<Sandbox>, Usage)> {
        let kept = self.held.iter().filter(|(_, held)| held.kept());
        kept.map(|(&id, held)| (held.sandbox.clone(), self.usage(id))).collect()
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
    pub(crate) fn abandon(&mut self, now_us: u64, effects: &mut Effects) {
        self.abandoned = true;
        for (id, held) in std::mem::take(&mut self.held) {
            self.slots.remove(id);
            effects.left.push(held.sandbox);
        }
        self.limit = None;
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
        mut failing: Failing,
        now_us: u64,
        effects: &mut Effects,
    ) -> bool {
        let id = sandbox.id();
        let in_use = self.slots.in_use(id);
        let Some(held) = self.held.get_mut(&id).filter(|held| Arc::ptr_eq(&held.sandbox, sandbox)) else {
            return false;
        };
        // Whoever finds that it fails has a slot; one that retires it is among those that nobody waits for.
        let own = u32::from(!failing.retired || held.unwanted == 0);
        failing.drains &= in_use > held.unwanted + own;
        match held.service {
            Service::Failed => return false,
            // It is being deleted in the same way already.
            Service::Draining | Service::Retired if failing.drains => return false,
            Service::Open | Service::Suspended | Service::Returning | Service::Draining | Service::Retired => {}
        }
        if failing.drains {
            held.service = Service::Retired;
            self.slots.insert(id, 0, now_us / 1000);
            self.slots.set_open(id, false);
            held.reported = self.slots.in_use(id);
        } else {
            held.service = Service::Failed;
            held.reported = self.slots.remove(id).unwrap_or(0);
        }
        self.report.failed(id, held.reported, failing);
        effects.left.push(sandbox.clone());
        self.changed(self.level(), now_us, effects);
        true
    }

    /// Takes note of an invocation in `sandbox` that nobody waits for any more, or of its end.
    pub(crate) fn note_unwanted(&mut self, sandbox: &Arc<Sandbox>, has_ended: bool) {
        let held = self.held.get_mut(&sandbox.id()).filter(|held| Arc::ptr_eq(&held.sandbox, sandbox));
        if let Some(held) = held {
            held.unwanted = if has_ended { held.unwanted.saturating_sub(1) } else { held.unwanted + 1 };
        }
    }

    /// Whether a sandbox runs more than one invocation at once.
    pub(crate) fn is_shared(&self, id: SandboxId) -> bool {
        self.slots.in_use(id).max(self.slots.held(id).unwrap_or(0)) > 1
    }

    /// A new stream begins: what is held now is what its hello says; deltas are numbered anew.
    pub(crate) fn resync(&mut self, function: u64, hello: &mut Vec<wire::HeldGrant>, effects: &mut Effects) {
        self.report.clear();
        self.limit = None;
        for id in self.held.keys().copied().collect::<Vec<_>>() {
            let slots = self.slots_of(id);
            let Some(held) = self.held.get_mut(&id) else { continue };
            // What was said on another stream, perhaps by another control plane, counts for nothing on this one.
            held.stamp = Stamp::default();
            held.reported = slots;
            let failing = held.failing("this connection");
            // Held until it is gone, or it would be granted to somebody else before the news of it is heard.
            let least = u32::from(failing.is_some());
            hello.push(wire::HeldGrant { function, sandbox: id.to_wire(), slots: slots.max(least) });
            if let Some(failing) = failing {
                self.report.failed(id, slots, failing);
            }
        }
        if self.level() > 0 {
            self.report.tell_demand();
        }
        effects.report = effects.report.max(self.report.queue());
    }

    /// Slots held of this function, those of leaving sandboxes included as long as they are in use, failed ones not.
    pub(crate) fn held_slots(&self) -> u32 {
        let working = self.held.iter().filter(|(_, held)| held.service != Service::Failed);
        working.map(|(&id, _)| self.slots_of(id)).fold(0, u32::saturating_add)
    }

    /// Sandboxes held, and slots that could be taken now.
    pub(crate) fn supply(&self) -> (usize, u64) {
        (self.held.len(), self.slots.free_total())
    }

    /// An invocation in a sandbox has ended.
    pub(super) fn free_slot(&mut self, id: SandboxId, now_us: u64) {
        match self.held.get_mut(&id) {
            Some(held) if held.service == Service::Failed => held.reported = held.reported.saturating_sub(1),
            _ => {
                self.slots.release(id, now_us / 1000);
                self.return_beyond_limit(id);
            }
        }
    }

    /// A slot of a sandbox became free: with an unmet limit the sandbox is given back instead of used again.
    fn return_beyond_limit(&mut self, id: SandboxId) {
        if let Some(limit) = self.limit
            && self.held.get(&id).is_some_and(Held::kept)
            && self.kept_slots() > u64::from(limit.slots)
        {
            self.set_service(id, Service::Returning, Stamp::default());
        }
    }

    /// After a change in a sandbox: gives it back when it leaves and is free, and tells when fewer slots are held.
    pub(super) fn settle(&mut self, id: SandboxId, effects: &mut Effects) {
        let slots = self.slots_of(id);
        let Some(held) = self.held.get_mut(&id) else { return };
        let leaving = matches!(held.service, Service::Draining | Service::Returning);
        if slots < held.reported && held.service != Service::Failed {
            held.reported = slots;
            self.report.hold(id, slots, held.stamp.version);
        }
        if leaving && slots == 0 {
            self.slots.remove(id);
            effects.left.extend(self.held.remove(&id).map(|held| held.sandbox));
        }
        self.end_limit_when_met();
    }

    fn take_grant(&mut self, delta: Delta, service: Service, now_us: u64) {
        let id = delta.endpoint.sandbox;
        let (terms, reported) = (self.terms, delta.slots);
        let held = self.held.entry(id).or_insert_with(|| {
            let sandbox = Arc::new(Sandbox::new(delta.endpoint, &terms, now_us.saturating_sub(delta.ready_age_us)));
            Held { sandbox, service, stamp: delta.stamp, reported, unwanted: 0 }
        });
        // Lent again by a control plane that the news of the failure has not reached.
        if let Some(failing) = held.failing("it was granted again") {
            held.stamp = held.stamp.max(delta.stamp);
            self.report.failed(id, held.reported, failing);
            return;
        }
        self.slots.insert(id, delta.slots, now_us / 1000);
        self.set_service(id, service, delta.stamp);
    }

    fn set_service(&mut self, id: SandboxId, service: Service, stamp: Stamp) {
        if let Some(held) = self.held.get_mut(&id)
            && held.service != Service::Failed
        {
            held.service = service;
            held.stamp = held.stamp.max(stamp);
            self.slots.set_open(id, service == Service::Open);
        }
    }

    fn forget(&mut self, id: SandboxId, effects: &mut Effects) {
        self.slots.remove(id);
        effects.gone.extend(self.held.remove(&id).map(|held| held.sandbox));
    }

    /// Slots of one sandbox that nobody else may use.
    fn slots_of(&self, id: SandboxId) -> u32 {
        let in_use = self.slots.in_use(id);
        match self.held.get(&id).map(|held| held.service) {
            Some(Service::Open | Service::Suspended) => self.slots.held(id).unwrap_or(0).max(in_use),
            Some(Service::Draining | Service::Returning) => in_use,
            Some(Service::Retired) => in_use.max(1),
            Some(Service::Failed) => self.held.get(&id).map_or(0, |held| held.reported),
            None => 0,
        }
    }

    /// Slots granted of sandboxes that are not leaving.
    fn kept_slots(&self) -> u64 {
        self.held.iter().filter(|(_, held)| held.kept()).map(|(&id, _)| u64::from(self.slots_of(id))).sum()
    }

    fn give_back_idle(&mut self, limit: Limit, now_us: u64, effects: &mut Effects) {
        let mut kept = self.kept_slots();
        while kept > u64::from(limit.slots) {
            let Some(id) = self.slots.idle_longest(limit.min_idle_ms, now_us / 1000) else { return };
            kept -= u64::from(self.slots_of(id));
            self.set_service(id, Service::Returning, Stamp::default());
            self.settle(id, effects);
        }
    }

    fn end_limit_when_met(&mut self) {
        let slots = self.held_slots();
        if let Some(limit) = self.limit
            && slots <= limit.slots
        {
            self.limit = None;
            self.report.limited(limit.version, slots);
        }
    }
}
