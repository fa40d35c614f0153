//! How many sandboxes there are and how many slots are lent, counted as they change: whoever looks at the cluster must
//! not hold up its decisions for as long as all sandboxes are counted.

use super::{State, sandbox::Standing};

/// Counts over all sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) starting: usize,
    pub(super) ready: usize,
    pub(super) slots_lent: u64,
}

impl Totals {
    /// A sandbox stands there now.
    pub(super) fn add(&mut self, standing: Standing) {
        if let Some(count) = self.of(standing) {
            *count += 1;
        }
    }

    /// A sandbox stands there no more.
    pub(super) fn subtract(&mut self, standing: Standing) {
        if let Some(count) = self.of(standing) {
            *count -= 1;
        }
    }

    fn of(&mut self, standing: Standing) -> Option<&mut usize> {
        match standing {
            Standing::Starting => Some(&mut self.starting),
            Standing::Ready => Some(&mut self.ready),
            Standing::Suspended | Standing::Unclaimed | Standing::Draining | Standing::Deleting => None,
        }
    }
}

impl State {
    /// The same, counted now; for tests.
    pub(super) fn count_totals(&self) -> Totals {
        let mut totals = Totals::default();
        for sandbox in self.sandboxes.values() {
            totals.add(sandbox.standing);
            totals.slots_lent += sandbox.loan.map_or(0, |loan| u64::from(loan.slots));
        }
        totals
    }
}
