//! Deciding how many sandboxes a function has, and making or giving up the difference.

use std::time::Duration;

use api::wire;
use model::{FunctionId, SandboxId};
use policy::{
    autoscale::Decision,
    placement::{NodeKey, Wanted},
};

use super::{
    Cluster, Effect, Now, State, WorkerChange,
    sandbox::{Sandbox, SandboxState, Timing},
    timer::SandboxTimer,
};
use crate::clock::micros;

/// Between two log lines about a lack of room: while there is none, every decision meets it.
const NO_ROOM_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Most sandboxes made by one decision; a larger shortage is met by several, so that one function cannot hold up others.
const MAX_PER_DECISION: u32 = 1024;
/// Sandboxes of a function that are drained because an invocation in them does not end: as many as its bound, and as this, in
/// addition to the others that it may have, or wants if it has no bound. Each further one is instead of one of those.
const MAX_RETIRED: u32 = 32;

impl Cluster {
    /// Sandboxes of a function that were retired, in excess of those that it may have in addition to the others.
    fn retired_too_many(&self, id: FunctionId) -> u32 {
        let Some(function) = self.functions.get(id) else { return 0 };
        let most = function.registered.spec.scale.upper_bound().min(MAX_RETIRED);
        // Mostly few leave, so that nothing is counted.
        if function.leaving() <= most {
            return 0;
        }
        let is_retired = |id: &&SandboxId| self.sandboxes.get(id).is_some_and(Sandbox::drains_retired);
        let retired = u32::try_from(function.sandboxes.iter().filter(is_retired).count()).unwrap_or(u32::MAX);
        retired.saturating_sub(most)
    }

    /// Nodes that failed a function lately, or whatever was placed on them.
    pub(super) fn avoided(&self, now: Now, id: FunctionId) -> Vec<NodeKey> {
        let of_function = self.functions.get(id).into_iter().flat_map(|function| &function.backoff.avoid);
        let avoided = self.nodes.failing().chain(of_function).filter(|(_, until_us)| now.us < *until_us);
        avoided.map(|(node, _)| *node).collect()
    }

    fn youngest_starting(&self, id: FunctionId, count: u32) -> Vec<SandboxId> {
        let Some(function) = self.functions.get(id) else { return Vec::new() };
        let is_starting =
            |id: &&SandboxId| self.sandboxes.get(id).is_some_and(|sandbox| sandbox.state == SandboxState::Starting);
        function.sandboxes.iter().rev().filter(is_starting).take(count as usize).copied().collect()
    }
}

impl State {
    /// Decides on one function now. `read_us` is when the cause was read from the network.
    pub(super) fn decide(&mut self, now: Now, id: FunctionId, read_us: u64) {
        if self.recovery.postpones(id) {
            return;
        }
        self.note_unanswered(now, id);
        let supply = self.cluster.supply_in_reach(id);
        let Some(function) = self.cluster.functions.get_mut(id).filter(|function| !function.removed) else { return };
        let decision = function.autoscaler.decide(now.ms(), function.demand(), supply);
        function.desired = decision.sandboxes;
        let have = supply.ready + supply.starting;
        let mut again_us = decision.again_in_ms.map(|ms| now.after(Duration::from_millis(ms)));
        // What is to be given up though it is in use is not granted anew, or whoever waits would get it back for ever.
        if have <= decision.sandboxes || !decision.drain {
            self.grant_to_waiting(id);
        }
        // Slots that lie idle elsewhere come first; when no sandbox may be made, busy ones come as they are free.
        let has_others = self.cluster.data_planes.connected().nth(1).is_some();
        let coming = if has_others { self.request_revocations(now, id, decision.sandboxes <= have) } else { 0 };
        again_us = earlier(again_us, self.note_unanswered(now, id));
        if decision.sandboxes > have {
            let missing = (decision.sandboxes - have).saturating_sub(coming);
            let missing = self.below_bound(now, id, missing);
            let again = self.grow(now, id, missing, read_us);
            again_us = earlier(again_us, again);
        } else {
            self.cluster.unschedulable.forget(id);
            let again = self.shrink(now, id, have - decision.sandboxes, &decision);
            again_us = earlier(again_us, again);
        }
        // What is free now is wanted, though perhaps nobody waits for it.
        self.grant_to_waiting(id);
        self.grant_in_advance(id);
        self.decide_again_at(id, again_us);
    }

    /// How many of `missing` sandboxes may be made until there are as many as the function's bound, those out of reach included.
    fn below_bound(&mut self, now: Now, id: FunctionId, missing: u32) -> u32 {
        let Some(function) = self.cluster.functions.get(id) else { return 0 };
        let supply = function.supply();
        let bound = function.registered.spec.scale.max;
        let room = bound.map_or(missing, |bound| bound.saturating_sub(supply.ready + supply.starting));
        let without_retired = missing.min(room.saturating_sub(self.cluster.retired_too_many(id)));
        if without_retired < missing.min(room) {
            self.log_retired(now, id);
        }
        without_retired
    }

    fn log_retired(&mut self, now: Now, id: FunctionId) {
        if let Some(function) = self.cluster.functions.get_mut(id) {
            let leaving = function.leaving();
            let why = format!("fewer sandboxes are made while {leaving} are retired, in which invocations do not end");
            function.backoff.last_error = Some(why);
        }
        if !self.may_log_no_room(now) {
            return;
        }
        let Some(function) = self.cluster.functions.get(id) else { return };
        let (name, leaving) = (&function.registered.spec.name, function.leaving());
        tracing::warn!(function = %name, leaving, "fewer further sandboxes: invocations in retired ones do not end");
    }

    /// Decides on a function at `due_us` at the latest.
    pub(super) fn decide_by(&mut self, id: FunctionId, due_us: u64) {
        let due = self.cluster.functions.get(id).and_then(|function| function.due_us);
        self.decide_again_at(id, earlier(due, Some(due_us)));
    }

    fn decide_again_at(&mut self, id: FunctionId, due: Option<u64>) {
        if let Some(function) = self.cluster.functions.get_mut(id) {
            let old = std::mem::replace(&mut function.due_us, due);
            if old != due {
                self.timers.reschedule(id, old, due);
            }
        }
    }

    /// Makes up to `missing` sandboxes. When to try again, if something prevents it now.
    fn grow(&mut self, now: Now, id: FunctionId, missing: u32, read_us: u64) -> Option<u64> {
        let function = self.cluster.functions.get(id)?;
        if let Some(unfit) = &function.unfit {
            if function.demand().waiting > 0 {
                let message = unfit.clone();
                self.announce_creation_problem(id, message, true);
            }
            self.cluster.unschedulable.forget(id);
            return None;
        }
        if now.us < function.backoff.not_before_us {
            let again = Some(function.backoff.not_before_us);
            if function.backoff.permanent {
                // Those who have begun to wait since it was announced are told as well.
                let message = function.backoff.last_error.clone().unwrap_or_default();
                self.announce_creation_problem(id, message, true);
            }
            return again;
        }
        if function.backoff.announced && function.backoff.permanent {
            // The back-off is over: let invocations wait again for another attempt.
            self.end_backoff(id);
        }
        let (missing, again) = self.cluster.paced(now, id, missing);
        for made in 0..missing {
            if made == MAX_PER_DECISION {
                self.cluster.unschedulable.forget(id);
                // With the next input: others have their turn before.
                return Some(now.us + 1);
            }
            if !self.create(now, id, read_us) {
                if made > 0 {
                    self.cluster.unschedulable.forget(id);
                }
                self.note_unschedulable(now, id);
                self.metrics.placement_failures.inc();
                self.log_no_room(now, id);
                return None;
            }
        }
        self.cluster.unschedulable.forget(id);
        again
    }

    fn log_no_room(&mut self, now: Now, id: FunctionId) {
        if !self.may_log_no_room(now) {
            return;
        }
        let Some(function) = self.cluster.functions.get(id) else { return };
        let spec = &function.registered.spec;
        let (cause, unschedulable) =
            (self.cluster.nodes.offer().no_room(spec.resources()), self.cluster.unschedulable.len());
        tracing::warn!(function = %spec.name, unschedulable, cause, "no place for a sandbox");
    }

    /// Whether a line about a lack of room is written now.
    fn may_log_no_room(&mut self, now: Now) -> bool {
        let is_too_soon =
            self.no_room_logged_us.is_some_and(|said_us| now.us < said_us.saturating_add(micros(NO_ROOM_LOG_INTERVAL)));
        if !is_too_soon {
            self.no_room_logged_us = Some(now.us);
        }
        !is_too_soon
    }

    /// Places one sandbox and tells its worker to make it; `false` when no node has room.
    fn create(&mut self, now: Now, id: FunctionId, read_us: u64) -> bool {
        let decided_us = now.measured_us();
        let Some(function) = self.cluster.functions.get(id) else { return false };
        let spec = &function.registered.spec;
        let avoid = self.cluster.avoided(now, id);
        let wanted = Wanted { policy: self.placement_of(spec), resources: spec.resources(), avoid: &avoid };
        let Some(node) = self.cluster.placement.choose(&self.cluster.nodes.pool, wanted, &mut self.rng) else {
            return false;
        };
        self.command(now, id, node, Timing { requested_us: read_us.min(decided_us), decided_us, ..Timing::default() })
    }

    /// Tells the worker of `node` to make a sandbox there; `false` when the node has no room. Of `timing` it is known when it
    /// was asked for and decided.
    pub(super) fn command(&mut self, now: Now, id: FunctionId, node: NodeKey, timing: Timing) -> bool {
        let Some(function) = self.cluster.functions.get(id) else { return false };
        let spec = &function.registered.spec;
        let (resources, concurrency, revision) = (spec.resources(), spec.concurrency, function.registered.revision);
        let Some(sandbox) = SandboxId::new(self.term.epoch, self.sandboxes_commanded + 1) else { return false };
        if !self.cluster.nodes.reserve(node, sandbox, resources) {
            return false;
        }
        self.sandboxes_commanded += 1;
        let timing = Timing { placed_us: now.measured_us(), ..timing };
        let created = Sandbox {
            function: id,
            revision,
            node,
            resources,
            concurrency,
            state: SandboxState::Starting,
            address: None,
            creation_due_us: now.after(self.settings.health.creation_deadline),
            commanded_us: now.us,
            queued_until_us: None,
            queued_for: None,
            retired: false,
            ready_us: 0,
            missed_us: 0,
            grant: None,
            version: 0,
            timing: Some(Box::new(timing)),
        };
        self.timers.watch(created.creation_due_us, sandbox, SandboxTimer::Creation);
        self.cluster.sandboxes.insert(sandbox, created);
        self.cluster.totals.add(SandboxState::Starting);
        self.cluster.nodes.get_mut(node).starting += 1;
        self.metrics.creations.inc();
        if let Some(function) = self.cluster.functions.get_mut(id) {
            function.add_sandbox(sandbox, SandboxState::Starting);
            function.backoff.made_us = now.us;
            function.backoff.found_no_room = false;
            function.activity.creations = function.activity.creations.saturating_add(1);
            if function.activity.touch(now) {
                self.note_active(now, id);
            }
        }
        self.send_create(id, sandbox);
        true
    }

    fn send_create(&mut self, id: FunctionId, sandbox: SandboxId) {
        let (Some(function), Some(created)) = (self.cluster.functions.get(id), self.cluster.sandboxes.get(&sandbox))
        else {
            return;
        };
        let node = self.cluster.nodes.get(created.node);
        let Some(session) = node.session else { return };
        let create = wire::CreateSandbox { sandbox: sandbox.to_wire(), node: node.index, revision: created.revision.0 };
        let change = WorkerChange::Create(create, function.registered.clone());
        self.effects.push(Effect::ToWorker { session, change });
    }

    /// Gives up `surplus` sandboxes. When to look again, if that is not possible now.
    fn shrink(&mut self, now: Now, id: FunctionId, surplus: u32, decision: &Decision) -> Option<u64> {
        let function = self.cluster.functions.get(id)?;
        if surplus == 0 {
            return None;
        }
        if now.us < function.hold_until_us {
            return Some(function.hold_until_us);
        }
        let free: Vec<_> = function.free.iter().copied().take(surplus as usize).collect();
        let starting = function.starting;
        let ready = function.ready;
        let mut left = surplus;
        for sandbox in free {
            self.note_orderly_end(sandbox);
            self.delete_sandbox(sandbox);
            left -= 1;
        }
        // Creations are cut only when giving up every ready sandbox would not be enough, or the policy says so.
        let cut = if decision.drain { left.min(starting) } else { left.saturating_sub(ready) };
        for sandbox in self.cluster.youngest_starting(id, cut) {
            self.delete_sandbox(sandbox);
            left -= 1;
        }
        self.revoke_surplus(now, id, left, decision);
        let refused = self.cluster.functions.get(id)?.loads.iter().map(|(_, load)| load.cap.not_before_us);
        refused.filter(|at| *at > now.us).min()
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    [one, other].into_iter().flatten().min()
}
