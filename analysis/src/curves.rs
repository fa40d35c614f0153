//! Distribution curves for figures, thinned to the resolution that a figure can show.

use stats::{Definition, Ecdf, FailurePolicy};

use crate::{
    rows::{Row, Rows},
    summarise::Slowdowns,
};

/// Corners kept of each curve: more than a figure has pixels across.
const CORNERS: usize = 800;

/// Least scheduling latency drawn, in milliseconds: a log axis has no zero, and execution times are whole microseconds.
const MIN_MS: f64 = 0.001;

/// Corners (x, share of values ≤ x) of one distribution curve.
pub(crate) type Curve = Vec<(f64, f64)>;

/// The curves of one repetition.
#[derive(Debug)]
pub(crate) struct Curves {
    /// Slowdown per function, definition `seed`, failures penalised.
    pub(crate) slowdown_seed: Curve,
    /// Slowdown per function, definition `artifact`, failures penalised.
    pub(crate) slowdown_artifact: Curve,
    /// Scheduling latency per ok invocation, in milliseconds.
    pub(crate) scheduling_ms: Curve,
}

impl Curves {
    pub(crate) fn of(rows: &Rows, slowdowns: &Slowdowns) -> Self {
        let slowdown = |definition| curve(slowdowns.per_function(definition, FailurePolicy::Penalise).to_vec());
        let scheduling = rows.measured.iter().filter_map(Row::scheduling_ns).map(|ns| (ns as f64 / 1e6).max(MIN_MS));
        Self {
            slowdown_seed: slowdown(Definition::Seed),
            slowdown_artifact: slowdown(Definition::Artifact),
            scheduling_ms: curve(scheduling.collect()),
        }
    }
}

fn curve(values: Vec<f64>) -> Curve {
    Ecdf::new(values).corners(CORNERS)
}
