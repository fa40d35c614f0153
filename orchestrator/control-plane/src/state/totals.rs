//! How many sandboxes there are and how many slots are granted, counted as they change: whoever looks at the cluster must
//! not hold up its decisions for as long as all sandboxes are counted.

use super::{Cluster, sandbox::SandboxState};

/// Counts over all sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) starting: usize,
    pub(super) ready: usize,
    pub(super) granted_slots: u64,
}

impl Totals {
    /// A sandbox stands there now.
    pub(super) fn add(&mut self, state: SandboxState) {
        if let Some(count) = self.of(state) {
            *count += 1;
        }
    }

    /// A sandbox stands there no more.
    pub(super) fn subtract(&mut self, state: SandboxState) {
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

impl Cluster {
    /// The same, counted now; for tests.
    pub(super) fn count_totals(&self) -> Totals {
        let mut totals = Totals::default();
        for sandbox in self.sandboxes.values() {
            totals.add(sandbox.state);
            totals.granted_slots += sandbox.grant.map_or(0, |grant| u64::from(grant.slots));
        }
        totals
    }
}
