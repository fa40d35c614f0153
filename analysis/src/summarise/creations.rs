//! Creations as the system recorded them: outcomes and phases.

use record::{ColdStart, CreationOutcome, CreationSummary, PhaseSummary};

use super::counts::Window;
use crate::spread::{signed, spread};

/// One phase's name and its field.
type Phase = (&'static str, fn(&ColdStart) -> Option<u64>);

/// The phases of a creation, in the order in which they happen.
pub(crate) const PHASES: [Phase; 8] = [
    ("decide", |row| row.decide_us),
    ("place", |row| row.place_us),
    ("dispatch", |row| row.dispatch_us),
    ("net_worker", |row| row.net_worker_us),
    ("create", |row| row.create_us),
    ("ready", |row| row.ready_us),
    ("publish", |row| row.publish_us),
    ("net_dataplane", |row| row.net_dataplane_us),
];

/// Creations requested at or after the window's start (all of them without a window).
pub(crate) fn summary(creations: &[ColdStart], window: Option<Window>) -> CreationSummary {
    let start_ns = window.map_or(i64::MIN, |window| signed(window.start_ns));
    let mut summary = CreationSummary::default();
    let mut ready = Vec::new();
    for creation in creations.iter().filter(|creation| creation.requested_ns >= start_ns) {
        *summary.outcomes.entry(creation.outcome).or_default() += 1;
        if creation.outcome == CreationOutcome::Ready {
            ready.push(creation);
        }
    }
    summary.ready_per_s = window.map(|window| ready.len() as f64 / window.seconds());
    for (phase, duration) in PHASES {
        if let Some(duration_us) = spread(ready.iter().filter_map(|row| duration(row)).map(signed).collect()) {
            summary.phases.push(PhaseSummary { phase: phase.to_owned(), duration_us });
        }
    }
    summary
}
