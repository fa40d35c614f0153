//! The right to run one invocation in one sandbox, as a value: dropping it gives the slot back.

use std::{fmt, sync::Arc};

use super::{Function, SandboxFailure};
use crate::{plane::Plane, upstream::Sandbox};

/// A slot that is in use.
pub(crate) struct Slot {
    /// `None` once it was taken apart.
    held: Option<(Arc<Function>, Arc<Sandbox>)>,
    taken_us: u64,
    /// Nobody waits for what runs in it.
    abandoned: bool,
}

/// How many slots of a sandbox are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// None.
    Idle,
    /// Not all.
    Partial,
    /// All.
    Full,
}

impl Slot {
    pub(super) fn new(function: Arc<Function>, sandbox: Arc<Sandbox>, taken_us: u64) -> Self {
        Self { held: Some((function, sandbox)), taken_us, abandoned: false }
    }

    /// The sandbox it is a slot of.
    pub(crate) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.parts().1
    }

    /// The data plane it belongs to.
    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.parts().0.plane
    }

    /// When it was taken.
    pub(crate) fn taken_us(&self) -> u64 {
        self.taken_us
    }

    /// The sandbox does not work: no invocation goes there any more, and the control plane is told.
    pub(crate) fn fail(&self, cause: &str) {
        self.fail_sandbox(SandboxFailure::broken(cause));
    }

    /// Connections to the sandbox end again and again: no invocation goes there any more, and the control plane is told. A
    /// program may end them for what it was sent, so others that run there may end.
    pub(crate) fn fail_repeatedly(&self, cause: &str) {
        self.fail_sandbox(SandboxFailure::breaking(cause));
    }

    /// It is not known whether the sandbox is still there: no invocation goes there any more, without a word against it.
    pub(crate) fn return_grant(&self) {
        let (function, sandbox) = self.parts();
        if function.return_grant(sandbox) {
            let id = sandbox.id();
            tracing::warn!(function = %function.name(), sandbox = %id, "sandbox given back: it may have ended unseen");
        }
    }

    /// The sandbox may still run what nobody waits for: no invocation goes there any more either. Others that run there
    /// may end.
    pub(crate) fn retire(&self, cause: &str) {
        self.fail_sandbox(SandboxFailure::retired(cause));
    }

    fn fail_sandbox(&self, failure: SandboxFailure) {
        let (function, sandbox) = self.parts();
        function.fail_sandbox(sandbox, failure);
    }

    /// Nobody waits any more for what runs in it.
    pub(crate) fn into_abandoned(mut self) -> Self {
        self.abandoned = true;
        let (function, sandbox) = self.parts();
        function.note_abandoned(sandbox, false);
        self
    }

    /// Whether other invocations may run in the sandbox at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        let (function, sandbox) = self.parts();
        function.view(|state| state.is_shared(sandbox.id()))
    }

    /// Gives it back at `now_us`.
    pub(crate) fn release(mut self, now_us: u64) {
        if let Some((function, sandbox)) = self.held.take() {
            function.release(&sandbox, now_us);
        }
    }

    /// Takes it apart without giving it back.
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
