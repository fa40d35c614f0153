//! The times at which functions, sandboxes, and the health of peers are due.

use std::collections::BTreeSet;

use model::{FunctionId, SandboxId};

use super::super::Now;

/// Interval between two checks of the health of workers and data planes: a small part of the shortest time-out.
const HEALTH_INTERVAL_US: u64 = 100_000;

/// An event that is due for a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::state) enum SandboxTimer {
    /// Its creation has taken as long as it may.
    Creation,
    /// It has been ready for so long that its creation was a success.
    Proof,
    /// Its invocations have had as long to end as they may.
    Drain,
}

/// Everything that is due at some time. Times are microseconds of the control plane's clock.
#[derive(Default)]
pub(in crate::state) struct Timers {
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

    /// Makes a sandbox due at `due`.
    pub(in crate::state) fn watch(&mut self, due: u64, sandbox: SandboxId, timer: SandboxTimer) {
        self.sandboxes.insert((due, sandbox, timer));
    }

    /// Undoes [`Timers::watch`].
    pub(super) fn forget(&mut self, due: u64, sandbox: SandboxId, timer: SandboxTimer) {
        self.sandboxes.remove(&(due, sandbox, timer));
    }

    /// Makes all sandboxes due `by_us` microseconds later.
    pub(in crate::state) fn postpone_sandboxes(&mut self, by_us: u64) {
        let postponed = std::mem::take(&mut self.sandboxes).into_iter();
        self.sandboxes = postponed.map(|(due, id, timer)| (due.saturating_add(by_us), id, timer)).collect();
    }

    /// Time of the next health check of peers, in microseconds.
    pub(in crate::state) fn health_us(&self) -> u64 {
        self.health_us
    }

    /// Checks the health of peers next after a whole interval.
    pub(in crate::state) fn restart_health(&mut self, now: Now) {
        self.health_us = now.us + HEALTH_INTERVAL_US;
    }
    #[cfg(test)]
    pub(super) fn functions(&self) -> &BTreeSet<(u64, FunctionId)> {
        &self.functions
    }

    #[cfg(test)]
    pub(super) fn sandboxes(&self, timer: SandboxTimer) -> impl Iterator<Item = SandboxId> {
        self.sandboxes.iter().filter(move |(_, _, of)| *of == timer).map(|(_, id, _)| *id)
    }

    #[cfg(test)]
    pub(super) fn has_sandbox(&self, due: u64, sandbox: SandboxId, timer: SandboxTimer) -> bool {
        self.sandboxes.contains(&(due, sandbox, timer))
    }

    /// Time at which the first function or sandbox is due, in microseconds.
    pub(in crate::state) fn next_due_us(&self) -> Option<u64> {
        let function = self.functions.first().map(|(due, _)| *due);
        let sandbox = self.sandboxes.first().map(|(due, ..)| *due);
        function.into_iter().chain(sandbox).min()
    }

    /// Takes the first sandbox that is due, and for what.
    pub(in crate::state) fn pop_due_sandbox(&mut self, now_us: u64) -> Option<(SandboxId, SandboxTimer)> {
        let (_, id, timer) = *self.sandboxes.first().filter(|(due, ..)| *due <= now_us)?;
        self.sandboxes.pop_first();
        Some((id, timer))
    }

    /// Takes the first function that is due.
    pub(super) fn pop_due_function(&mut self, now_us: u64) -> Option<FunctionId> {
        let (_, id) = *self.functions.first().filter(|(due, _)| *due <= now_us)?;
        self.functions.pop_first();
        Some(id)
    }
}
