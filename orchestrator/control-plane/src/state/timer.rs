//! When to look at what again.

use std::collections::BTreeSet;

use model::{FunctionId, SandboxId};

use super::{Now, State};

/// Workers and data planes are looked at this often: a small part of the shortest silence that matters.
const HEALTH_INTERVAL_US: u64 = 100_000;

/// What is looked at when a sandbox's time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SandboxTimer {
    /// Its creation has taken as long as it may.
    Creation,
    /// It has been ready for so long that its creation was a success.
    Proof,
    /// Its invocations have had as long to end as they may.
    Drain,
}

/// Everything that is due at some time. Times are microseconds of the control plane's clock.
#[derive(Default)]
pub(super) struct Timers {
    functions: BTreeSet<(u64, FunctionId)>,
    sandboxes: BTreeSet<(u64, SandboxId, SandboxTimer)>,
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

    /// Looks at a sandbox at `due`.
    pub(super) fn watch(&mut self, due: u64, sandbox: SandboxId, timer: SandboxTimer) {
        self.sandboxes.insert((due, sandbox, timer));
    }

    /// Does not look at a sandbox at `due` after all.
    pub(super) fn forget(&mut self, due: u64, sandbox: SandboxId, timer: SandboxTimer) {
        self.sandboxes.remove(&(due, sandbox, timer));
    }

    /// Looks at all sandboxes `by_us` microseconds later.
    pub(super) fn postpone_sandboxes(&mut self, by_us: u64) {
        let postponed = std::mem::take(&mut self.sandboxes).into_iter();
        self.sandboxes = postponed.map(|(due, id, timer)| (due.saturating_add(by_us), id, timer)).collect();
    }

    /// When it is next looked at who is silent, in microseconds.
    pub(super) fn health_us(&self) -> u64 {
        self.health_us
    }

    /// It is looked at who is silent as if that had just been done.
    pub(super) fn restart_health(&mut self, now: Now) {
        self.health_us = now.us + HEALTH_INTERVAL_US;
    }
}

impl State {
    /// When [`Input::Time`](super::Input::Time) is next needed, in microseconds.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        let reply = self.replies.front().map(|reply| reply.deadline_us);
        let function = self.timers.functions.first().map(|(due, _)| *due);
        let sandbox = self.timers.sandboxes.first().map(|(due, ..)| *due);
        let health = self.cluster.watches_health().then_some(self.timers.health_us);
        [reply, function, sandbox, health, self.recovery.due_us(), self.overdue.due_us()].into_iter().flatten().min()
    }

    pub(super) fn run_timers(&mut self, now: Now) {
        self.finish_recovery(now);
        self.release_replies(now);
        while let Some(&(due, id)) = self.timers.functions.first()
            && due <= now.us
        {
            self.timers.functions.pop_first();
            if let Some(function) = self.cluster.functions.get_mut(id) {
                function.due_us = None;
            }
            self.touch(id, now.us);
        }
        while let Some(&(due, id, timer)) = self.timers.sandboxes.first()
            && due <= now.us
        {
            self.timers.sandboxes.pop_first();
            match timer {
                SandboxTimer::Creation => self.creation_overdue(now, id),
                SandboxTimer::Proof => self.sandbox_proven(id),
                SandboxTimer::Drain => self.drain_overdue(id),
            }
        }
        if self.overdue.due_us().is_some_and(|due| due <= now.us) {
            self.check_overdue(now);
        }
        if self.cluster.watches_health() && self.timers.health_us <= now.us {
            self.timers.restart_health(now);
            self.check_health(now);
        }
    }
}
