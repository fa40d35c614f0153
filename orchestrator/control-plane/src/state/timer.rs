//! When to look at what again.

use std::collections::BTreeSet;

use model::{FunctionId, SandboxId};

use super::{Now, State};

/// Workers and data planes are looked at this often: a small part of the shortest silence that matters.
const HEALTH_INTERVAL_US: u64 = 100_000;

/// Everything that is due at some time. Times are microseconds of the control plane's clock.
#[derive(Default)]
pub(super) struct Timers {
    functions: BTreeSet<(u64, FunctionId)>,
    drains: BTreeSet<(u64, SandboxId)>,
    health_us: u64,
}

impl Timers {
    /// Moves a function's next decision from `old` to `new`.
    pub(super) fn reschedule(&mut self, function: FunctionId, old: Option<u64>, new: Option<u64>) {
        if let Some(due) = old {
            self.functions.remove(&(due, function));
        }
        if let Some(due) = new {
            self.functions.insert((due, function));
        }
    }

    /// A draining sandbox is ended at `due` whatever still runs on it.
    pub(super) fn drain_until(&mut self, due: u64, sandbox: SandboxId) {
        self.drains.insert((due, sandbox));
    }
}

impl State {
    /// When [`Input::Time`](super::Input::Time) is next needed, in microseconds.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        let reply = self.replies.front().map(|reply| reply.deadline_us);
        let function = self.timers.functions.first().map(|(due, _)| *due);
        let drain = self.timers.drains.first().map(|(due, _)| *due);
        let health = self.watches_health().then_some(self.timers.health_us);
        [reply, function, drain, health, self.recovery.due_us()].into_iter().flatten().min()
    }

    pub(super) fn run_timers(&mut self, now: Now) {
        self.finish_recovery(now);
        self.release_replies(now);
        while let Some(&(due, id)) = self.timers.functions.first()
            && due <= now.us
        {
            self.timers.functions.pop_first();
            if let Some(function) = self.functions.get_mut(id) {
                function.due_us = None;
            }
            self.decide(now, id, now.us);
        }
        while let Some(&(due, id)) = self.timers.drains.first()
            && due <= now.us
        {
            self.timers.drains.pop_first();
            self.drain_overdue(id);
        }
        if self.watches_health() && self.timers.health_us <= now.us {
            self.timers.health_us = now.us + HEALTH_INTERVAL_US;
            self.check_health(now);
        }
    }
}
