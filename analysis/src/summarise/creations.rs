//! Creations as the system recorded them: outcomes and phases.

use record::{ColdStart, CreationOutcome, CreationPhase, CreationSummary, PhaseSummary};

use super::counts::Window;
use crate::spread::{signed, spread};

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
    for phase in CreationPhase::ALL {
        if let Some(duration_us) = spread(ready.iter().filter_map(|row| row.phase_us(phase)).map(signed).collect()) {
            summary.phases.push(PhaseSummary { phase, duration_us });
        }
    }
    summary
}
