//! The right to run one invocation in one sandbox, as a value: dropping it releases the slot.

use std::{fmt, sync::Arc};

use super::{Function, SandboxFailure};
use crate::{plane::Plane, upstream::Sandbox};

/// A slot in use.
pub(crate) struct Slot {
    /// `None` once it was consumed.
    held: Option<(Arc<Function>, Arc<Sandbox>)>,
    taken_us: u64,
    /// The client left, but the invocation may still run.
    abandoned: bool,
}

/// Occupancy of a sandbox's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// No slot is in use.
    Idle,
    /// Some slots are in use.
    Partial,
    /// All slots are in use.
    Full,
}

impl Slot {
    pub(super) fn new(function: Arc<Function>, sandbox: Arc<Sandbox>, taken_us: u64) -> Self {
        Self { held: Some((function, sandbox)), taken_us, abandoned: false }
    }

    pub(crate) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.parts().1
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.parts().0.plane
    }

    /// Time of the acquisition, microseconds.
    pub(crate) fn taken_us(&self) -> u64 {
        self.taken_us
    }

    /// Stops using the sandbox and reports it as broken.
    pub(crate) fn fail(&self, cause: &str) {
        self.fail_sandbox(SandboxFailure::broken(cause));
    }

    /// Stops using the sandbox and reports that its connections keep ending. A program may close them because of a
    /// request, so other invocations in it may finish.
    pub(crate) fn fail_repeatedly(&self, cause: &str) {
        self.fail_sandbox(SandboxFailure::breaking(cause));
    }

    /// Returns the grant of the sandbox, which may have ended unseen, without reporting a failure.
    pub(crate) fn return_grant(&self) {
        let (function, sandbox) = self.parts();
        if function.return_grant(sandbox) {
            let id = sandbox.id();
            tracing::warn!(function = %function.name(), sandbox = %id, "grant returned: the sandbox may have ended unseen");
        }
    }

    /// Stops using the sandbox because it may still run an abandoned invocation. Other invocations in it may finish.
    pub(crate) fn retire(&self, cause: &str) {
        self.fail_sandbox(SandboxFailure::retired(cause));
    }

    fn fail_sandbox(&self, failure: SandboxFailure) {
        let (function, sandbox) = self.parts();
        function.fail_sandbox(sandbox, failure);
    }

    /// Marks the invocation as abandoned: no client waits for it any more.
    pub(crate) fn into_abandoned(mut self) -> Self {
        self.abandoned = true;
        let (function, sandbox) = self.parts();
        function.note_abandoned(sandbox, false);
        self
    }

    /// Returns true if other invocations may run in the sandbox at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        let (function, sandbox) = self.parts();
        function.view(|state| state.is_shared(sandbox.id()))
    }

    /// Releases the slot. The caller passes the time because it has read the clock anyway.
    pub(crate) fn release(mut self, now_us: u64) {
        if let Some((function, sandbox)) = self.held.take() {
            function.release(&sandbox, now_us);
        }
    }

    /// Consumes it without releasing the slot.
    pub(super) fn into_sandbox(mut self) -> Arc<Sandbox> {
        self.held.take().expect("only the methods that consume a slot empty it").1
    }

    fn parts(&self) -> &(Arc<Function>, Arc<Sandbox>) {
        self.held.as_ref().expect("only the methods that consume a slot empty it")
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((function, sandbox)) = self.held.take() {
            if self.abandoned {
                function.note_abandoned(&sandbox, true);
            }
            let now_us = function.plane.clock.now_us();
            function.release(&sandbox, now_us);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("taken_us", &self.taken_us).finish_non_exhaustive()
    }
}
