//! Counts over all sandboxes.

use super::sandbox::{Sandbox, SandboxState};

/// Counts over all sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::state) struct Totals {
    pub(in crate::state) starting: usize,
    pub(in crate::state) ready: usize,
    pub(in crate::state) granted_slots: u64,
}

impl Totals {
    /// Counts these sandboxes one by one.
    pub(in crate::state) fn count<'a>(sandboxes: impl Iterator<Item = &'a Sandbox>) -> Self {
        let mut totals = Self::default();
        for sandbox in sandboxes {
            totals.add(sandbox.state());
            totals.granted_slots += sandbox.grant().map_or(0, |grant| u64::from(grant.slots));
        }
        totals
    }

    /// A sandbox has this state now.
    pub(in crate::state) fn add(&mut self, state: SandboxState) {
        if let Some(count) = self.of(state) {
            *count += 1;
        }
    }

    /// A sandbox has this state no more.
    pub(in crate::state) fn subtract(&mut self, state: SandboxState) {
        if let Some(count) = self.of(state) {
            *count -= 1;
        }
    }

    fn of(&mut self, state: SandboxState) -> Option<&mut usize> {
        match state {
            SandboxState::Starting => Some(&mut self.starting),
            SandboxState::Ready => Some(&mut self.ready),
            SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Draining | SandboxState::Terminating => {
                None
            }
        }
    }
}
