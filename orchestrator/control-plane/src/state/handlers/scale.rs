//! Decisions on the number of sandboxes of a function: the difference is created, or revoked and ended.

use std::time::Duration;

use model::{FunctionId, SandboxId};
use policy::autoscale::Decision;

use super::{
    super::{
        cluster::{DataPlanes, Recent, Sandbox, SandboxState, Tables, Unschedulable},
        context::Context,
        effects::{CreationProblem, Effects},
        recovery::Recovery,
    },
    backoff::BackoffHandler,
    creation::{CreationHandler, Scaler},
    grant::GrantHandler,
    sandbox::SandboxHandler,
};

/// Most sandboxes created by one decision. A larger shortage needs several, so that one function cannot delay others.
const MAX_PER_DECISION: u32 = 1024;
/// Sandboxes of a function that are drained because an invocation in them does not end: as many as its upper bound, and as
/// this, in addition to the others that it may have, or wants if it has no bound. Each further one is instead of one of
/// those.
const MAX_RETIRED: u32 = 32;
/// Sizes that may find no room before the others are left for the next time.
const MAX_MISSES: usize = 32;

/// Scales functions.
pub(in crate::state) struct ScalingHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) unschedulable: &'a mut Unschedulable,
    pub(super) recovery: &'a mut Recovery,
    pub(super) recent: &'a mut Recent,
    pub(super) scaler: &'a mut Scaler,
    pub(super) effects: &'a mut Effects,
}

impl ScalingHandler<'_> {
    fn grants(&mut self) -> GrantHandler<'_> {
        GrantHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn backoff(&mut self) -> BackoffHandler<'_> {
        BackoffHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn creations(&mut self) -> CreationHandler<'_> {
        CreationHandler {
            context: self.context,
            tables: self.tables,
            data_planes: self.data_planes,
            recent: self.recent,
            scaler: self.scaler,
            effects: self.effects,
        }
    }

    /// Decides on one function now. `read_us` is when the cause was read from the network.
    pub(in crate::state) fn decide(&mut self, id: FunctionId, read_us: u64) {
        if self.recovery.postpones(id) {
            return;
        }
        // It may have been removed since it was touched.
        if self.tables.functions.get(id).is_none_or(|function| function.removed) {
            return;
        }
        self.grants().note_unacknowledged(id);
        let supply = self.tables.supply_in_reach(id);
        let now = self.context.now;
        let Some(function) = self.tables.functions.known_mut(id) else { return };
        let decision = function.autoscaler.decide(now.ms(), function.demand(), supply);
        function.desired = decision.sandboxes;
        let have = supply.ready + supply.starting;
        let mut again_us = decision.again_in_ms.map(|ms| now.after(Duration::from_millis(ms)));
        // Slots that are to be returned although they are busy are not granted again, or the waiting data plane would
        // get them back for ever.
        if have <= decision.sandboxes || !decision.drain {
            self.grants().grant_to_waiting(id);
        }
        // Idle slots of other data planes come first; when no sandbox may be created, busy ones follow as they become
        // free.
        let has_others = self.data_planes.connected().nth(1).is_some();
        let coming = if has_others { self.grants().request_revocations(id, decision.sandboxes <= have) } else { 0 };
        again_us = earlier(again_us, self.grants().note_unacknowledged(id));
        let blocked_until_us = if decision.sandboxes > have {
            let missing = (decision.sandboxes - have).saturating_sub(coming);
            let missing = self.below_bound(id, missing);
            self.grow(id, missing, read_us)
        } else {
            self.unschedulable.forget(id);
            self.shrink(id, have - decision.sandboxes, &decision)
        };
        // Sandboxes that are free now are needed, even if no invocation waits for them.
        self.grants().grant_to_waiting(id);
        self.grants().grant_in_advance(id);
        self.tables.decide_again_at(id, earlier(again_us, blocked_until_us));
    }

    /// There is new room: tries the functions again that found none, until there is none again.
    pub(in crate::state) fn retry_unschedulable(&mut self) {
        let now = self.context.now;
        let mut missed = Vec::new();
        while missed.len() < MAX_MISSES {
            let Some(mut attempt) = self.unschedulable.take_next(now, &missed) else { return };
            let commanded = self.scaler.sandboxes_commanded;
            self.decide(attempt.id, now.us);
            attempt.is_served = self.scaler.sandboxes_commanded > commanded;
            missed.extend(self.unschedulable.finish(attempt));
        }
    }

    /// The part of `missing` sandboxes that may be created without exceeding the function's bound, those out of reach
    /// included.
    fn below_bound(&mut self, id: FunctionId, missing: u32) -> u32 {
        let Some(function) = self.tables.functions.known(id) else { return 0 };
        let supply = function.supply();
        let bound = function.registered.spec.scale.max;
        let room = bound.map_or(missing, |bound| bound.saturating_sub(supply.ready + supply.starting));
        let without_retired = missing.min(room.saturating_sub(self.tables.retired_too_many(id)));
        if without_retired < missing.min(room) {
            self.note_retired(id);
        }
        without_retired
    }

    fn note_retired(&mut self, id: FunctionId) {
        let may_log = self.scaler.may_log_no_room(self.context.now);
        let Some(function) = self.tables.functions.known_mut(id) else { return };
        let leaving = function.leaving();
        let why = format!("fewer sandboxes are made while {leaving} are retired, in which invocations do not end");
        function.backoff.last_error = Some(why);
        if may_log {
            let name = &function.registered.spec.name;
            tracing::warn!(function = %name, leaving, "fewer further sandboxes: invocations in retired ones do not end");
        }
    }

    /// Makes up to `missing` sandboxes. Returns when to try again, if something prevents it now.
    fn grow(&mut self, id: FunctionId, missing: u32, read_us: u64) -> Option<u64> {
        let now = self.context.now;
        let function = self.tables.functions.known(id)?;
        if let Some(unfit) = &function.unfit {
            if function.demand().waiting > 0 {
                let problem = CreationProblem { message: unfit.clone(), is_permanent: true };
                self.backoff().announce(id, Some(problem));
            }
            self.unschedulable.forget(id);
            return None;
        }
        if now.us < function.backoff.not_before_us {
            let again = Some(function.backoff.not_before_us);
            if function.backoff.permanent {
                // Also invocations that began to wait after the announcement must fail.
                let message = function.backoff.last_error.clone().unwrap_or_default();
                self.backoff().announce(id, Some(CreationProblem { message, is_permanent: true }));
            }
            return again;
        }
        if function.backoff.announced && function.backoff.permanent {
            // The back-off is over: invocations wait again for another attempt.
            self.backoff().end(id);
        }
        let (missing, again) = self.tables.functions.paced(now, id, missing);
        for made in 0..missing {
            if made == MAX_PER_DECISION {
                self.unschedulable.forget(id);
                // With the next input, so that other functions are decided on in between.
                return Some(now.us + 1);
            }
            if !self.creations().create(id, read_us) {
                // It was served: what it still wants begins to wait now, behind others.
                if made > 0 {
                    self.unschedulable.forget(id);
                }
                self.note_no_room(id);
                return None;
            }
        }
        self.unschedulable.forget(id);
        again
    }

    /// No node had room for a sandbox of a function.
    fn note_no_room(&mut self, id: FunctionId) {
        let now = self.context.now;
        self.context.metrics.placement_failures.inc();
        let Some(function) = self.tables.functions.known_mut(id) else { return };
        function.backoff.found_no_room = true;
        let spec = &function.registered.spec;
        self.unschedulable.note(now, id, spec.resources());
        if self.scaler.may_log_no_room(now) {
            let cause = self.tables.nodes.offer().no_room(spec.resources());
            let unschedulable = self.unschedulable.len();
            tracing::warn!(function = %spec.name, unschedulable, cause, "no place for a sandbox");
        }
    }

    /// Ends `surplus` sandboxes. Returns the time of the next decision, if that is not possible now.
    fn shrink(&mut self, id: FunctionId, surplus: u32, decision: &Decision) -> Option<u64> {
        let now = self.context.now;
        let function = self.tables.functions.known(id)?;
        if surplus == 0 {
            return None;
        }
        // The autoscaler's windows are empty after a restart, so what it sees is less than the demand.
        if now.us < function.hold_until_us {
            return Some(function.hold_until_us);
        }
        let free: Vec<_> = function.free().iter().copied().take(surplus as usize).collect();
        let starting = function.starting();
        let ready = function.ready();
        let mut left = surplus;
        for sandbox in free {
            self.backoff().on_orderly_end(sandbox);
            self.sandboxes().delete(sandbox);
            left -= 1;
        }
        // Creations are cancelled only if ending every ready sandbox is not enough, or if the policy demands it.
        let cancelled = if decision.drain { left.min(starting) } else { left.saturating_sub(ready) };
        for sandbox in self.tables.youngest_starting(id, cancelled) {
            self.sandboxes().delete(sandbox);
            left -= 1;
        }
        self.grants().revoke_surplus(id, left, decision);
        let refused = self.tables.functions.known(id)?.loads().map(|(_, load)| load.cap.not_before_us);
        refused.filter(|at| *at > now.us).min()
    }
}

impl Tables {
    /// Number of retired sandboxes of a function beyond those that it may have in addition to the others.
    fn retired_too_many(&self, id: FunctionId) -> u32 {
        let Some(function) = self.functions.known(id) else { return 0 };
        let most = function.registered.spec.scale.upper_bound().min(MAX_RETIRED);
        // Mostly few leave, so that nothing is counted.
        if function.leaving() <= most {
            return 0;
        }
        let is_retired = |id: &&SandboxId| self.sandboxes.known(**id).is_some_and(Sandbox::drains_retired);
        let retired = u32::try_from(function.sandboxes().iter().filter(is_retired).count()).unwrap_or(u32::MAX);
        retired.saturating_sub(most)
    }

    fn youngest_starting(&self, id: FunctionId, count: u32) -> Vec<SandboxId> {
        let Some(function) = self.functions.known(id) else { return Vec::new() };
        let is_starting = |id: &&SandboxId| self.sandboxes.state_of(**id) == Some(SandboxState::Starting);
        function.sandboxes().iter().rev().filter(is_starting).take(count as usize).copied().collect()
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
