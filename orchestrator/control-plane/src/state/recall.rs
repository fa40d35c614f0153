//! Asking data planes for slots: surplus, and what others wait for. They may refuse what they use, and one that does not
//! answer is not waited for.

use api::wire;
use model::{FunctionId, SandboxId};
use policy::autoscale::{Decision, Supply};

use super::{
    DataPlaneChange, Now, State,
    data_plane::{DataPlaneKey, Level, Limit},
    sandbox::Standing,
};

/// After a limit that brought no slots back, the data plane is asked again no sooner than this.
const ASK_AGAIN_US: u64 = 1_000_000;

/// A data plane asked for what others wait for answers within this time, also when it is busy; then it is not counted on.
const ANSWER_WITHIN_US: u64 = 250_000;

/// What a data plane is asked to give back: all but `slots`, as far as idle for long enough; busy ones too if `drain`.
struct Ask {
    slots: u32,
    min_idle_ms: u64,
    drain: bool,
}

impl State {
    /// What a function has to serve with: without what is lent to data planes that do not answer.
    pub(super) fn supply_in_reach(&self, id: FunctionId) -> Supply {
        let Some(function) = self.functions.get(id) else { return Supply::default() };
        let supply = function.supply();
        if !function.levels.iter().any(|(_, level)| level.silent) {
            return supply;
        }
        let is_out_of_reach = |id: &&SandboxId| {
            self.sandboxes.get(id).is_some_and(|sandbox| {
                let holder = sandbox.loan.and_then(|loan| function.level(loan.data_plane));
                sandbox.standing == Standing::Ready && holder.is_some_and(|level| level.silent)
            })
        };
        let out_of_reach = function.sandboxes.iter().filter(is_out_of_reach).count();
        Supply { ready: supply.ready.saturating_sub(u32::try_from(out_of_reach).unwrap_or(u32::MAX)), ..supply }
    }

    /// Takes note of data planes that should have answered by now. When the next one should have.
    pub(super) fn note_unanswered(&mut self, now: Now, id: FunctionId) -> Option<u64> {
        let function = self.functions.get_mut(id)?;
        for (_, level) in &mut function.levels {
            if level.limit.due_us.is_some_and(|due| due <= now.us) {
                (level.limit.due_us, level.silent) = (None, true);
            }
        }
        function.levels.iter().filter_map(|(_, level)| level.limit.due_us).min()
    }

    /// Asks data planes to give back `surplus` sandboxes of a function, those with most idle slots first.
    pub(super) fn ask_back(&mut self, now: Now, id: FunctionId, surplus: u32, decision: &Decision) {
        let Some(function) = self.functions.get(id) else { return };
        let concurrency = function.registered.spec.concurrency;
        let mut holders: Vec<_> = function
            .levels
            .iter()
            .filter(|(_, level)| level.held > 0 && !level.silent)
            .map(|(key, level)| (level.idle(), *key))
            .collect();
        holders.sort_unstable_by(|one, other| other.cmp(one));
        let mut left = surplus;
        for (_, key) in holders {
            let Some(level) = self.functions.get(id).and_then(|function| function.level(key)) else { continue };
            let back = left.min(level.held.div_ceil(concurrency));
            if back == 0 {
                return;
            }
            left -= back;
            let slots = level.held.saturating_sub(back.saturating_mul(concurrency));
            let asked_already = level.limit.slots == Some(slots) && (level.limit.pending || level.limit.drain);
            if !asked_already && now.us >= level.limit.not_before_us {
                let (min_idle_ms, drain) = (decision.min_idle_ms, decision.drain);
                self.send_limit(id, key, Ask { slots, min_idle_ms, drain });
            }
        }
    }

    /// Asks data planes that hold slots and have nobody waiting to give some to those where invocations wait and
    /// nothing under way will serve them. How many sandboxes may come of it.
    ///
    /// Who is asked may have used its slots in the meantime and refuse; with `until_given` it gives them back as soon as
    /// they are free.
    pub(super) fn recall(&mut self, now: Now, id: FunctionId, until_given: bool) -> u32 {
        let Some(function) = self.functions.get(id) else { return 0 };
        let concurrency = function.registered.spec.concurrency;
        let unmet: u32 = function.levels.iter().map(|(_, level)| level.unmet()).fold(0, u32::saturating_add);
        if unmet == 0 {
            return 0;
        }
        let asked: u32 = function.levels.iter().map(|(_, level)| level.asked_back()).fold(0, u32::saturating_add);
        let mut missing = unmet.saturating_sub(function.starting.saturating_mul(concurrency)).saturating_sub(asked);
        let may_be_asked = |level: &Level| {
            let is_asked = level.silent || level.asked_back() > 0;
            level.held > 0 && level.waiting == 0 && !is_asked && now.us >= level.limit.not_before_us
        };
        let holders = function.levels.iter().filter(|(_, level)| may_be_asked(level));
        let holders: Vec<_> = holders.map(|(key, level)| (*key, level.held)).collect();
        let mut coming = asked;
        for (key, held) in holders {
            let is_connected = self.data_planes.get(key).is_some_and(|known| known.session.is_some());
            if missing == 0 || !is_connected {
                continue;
            }
            let back = missing.min(held).next_multiple_of(concurrency).min(held);
            missing = missing.saturating_sub(back);
            coming += back;
            self.send_limit(id, key, Ask { slots: held - back, min_idle_ms: 0, drain: until_given });
            if let Some(function) = self.functions.get_mut(id) {
                function.level_mut(key).limit.due_us = Some(now.us + ANSWER_WITHIN_US);
            }
        }
        coming / concurrency
    }

    fn send_limit(&mut self, id: FunctionId, key: DataPlaneKey, ask: Ask) {
        let Ask { slots, min_idle_ms, drain } = ask;
        let version = self.data_planes.next_version();
        let Some(function) = self.functions.get_mut(id) else { return };
        let limit = &mut function.level_mut(key).limit;
        *limit = Limit { version, slots: Some(slots), drain, pending: true, due_us: None, ..*limit };
        let limit = wire::GrantLimit { function: id.0, version, slots, min_idle_ms, drain };
        self.tell_data_plane(key, DataPlaneChange::Limit(limit));
    }

    /// Ends a limit that would make a data plane give back what it is being lent.
    pub(super) fn lift_limit(&mut self, id: FunctionId, key: DataPlaneKey) {
        self.send_limit(id, key, Ask { slots: u32::MAX, min_idle_ms: 0, drain: false });
        if let Some(function) = self.functions.get_mut(id) {
            function.level_mut(key).limit.slots = None;
        }
    }

    /// A data plane has done what a limit asked, as far as it could. The function, as a decision follows.
    pub(super) fn take_limit_ack(&mut self, now: Now, key: DataPlaneKey, ack: &wire::LimitAck) -> Option<FunctionId> {
        let id = FunctionId(ack.function);
        let function = self.functions.get_mut(id)?;
        let level = function.level_mut(key);
        if level.limit.version != ack.version {
            return None;
        }
        (level.limit.pending, level.limit.due_us, level.silent) = (false, None, false);
        let asked = level.limit.slots.unwrap_or(u32::MAX);
        if level.held > asked {
            // It uses more than was believed, or not for long enough unused, or it holds less than is believed here:
            // whatever the reason, asking at once again would bring the same answer.
            level.limit.not_before_us = now.us + ASK_AGAIN_US;
        }
        if ack.slots > asked && !level.limit.drain {
            level.running = level.running.max(ack.slots.saturating_sub(level.waiting));
        }
        // A limit that was met ends there, and slots lent meanwhile are not given back for it: here it ends as well, or
        // they would be counted on for ever.
        if !level.limit.drain || ack.slots <= asked {
            (level.limit.slots, level.limit.drain) = (None, false);
        }
        Some(id)
    }
}
