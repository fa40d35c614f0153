//! Numbers of rows by kind, and the rates over the measured window.

use record::{LoadSummary, Outcome, Rates, RowCounts};

use crate::rows::Rows;

/// The measured part of a run, in nanoseconds from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

impl Window {
    pub(crate) fn seconds(self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / 1e9
    }
}

/// From the first measured row's due time to the end of the schedule; `None` when that is no time at all.
pub(crate) fn window(rows: &Rows, load: Option<&LoadSummary>) -> Option<Window> {
    let start_ns = rows.measured.iter().map(|row| row.scheduled_ns).min()?;
    // The gap after the last row is part of the window; only `loadgen.json` tells its length.
    let end_ns = load.map_or(0, |load| load.span_ns).max(rows.last_due_ns);
    (end_ns > start_ns).then_some(Window { start_ns, end_ns })
}

pub(crate) fn counts(rows: &Rows, load: Option<&LoadSummary>) -> RowCounts {
    let mut indexes = rows.indexes.clone();
    indexes.sort_unstable();
    indexes.dedup();
    let (recorded, distinct) = (rows.indexes.len() as u64, indexes.len() as u64);
    let mut counts = RowCounts {
        scheduled: load.map(|load| load.scheduled),
        recorded,
        // By distinct places: a duplicated row must not stand in for a missing one.
        unaccounted: load.map(|load| load.scheduled.saturating_sub(distinct)),
        duplicated: recorded - distinct,
        warmup: rows.warmup,
        measured: rows.measured.len() as u64,
        sent: rows.measured.iter().filter(|row| row.sent_ns.is_some()).count() as u64,
        impossible: rows.impossible.count(),
        functions: rows.functions.len() as u64,
        ..RowCounts::default()
    };
    for row in &rows.measured {
        *counts.outcomes.entry(row.outcome).or_default() += 1;
    }
    counts
}

pub(crate) fn rates(rows: &Rows, window: Window) -> Rates {
    let done = rows.measured.iter().filter(|row| row.outcome == Outcome::Ok).filter_map(|row| row.done_ns);
    let answered = done
        .chain(rows.warmup_done_ns.iter().copied())
        .filter(|done| (window.start_ns..=window.end_ns).contains(done))
        .count();
    let window_s = window.seconds();
    Rates { window_s, offered_per_s: rows.measured.len() as f64 / window_s, achieved_per_s: answered as f64 / window_s }
}
