//! Whether a rate was surely too much for a system: what the sustained rate of another one is compared with.
//!
//! That a rate was not found to be sustained is not enough: a short window says so of any. Nor is what a system achieved
//! while more was asked of it: under overload that may be less than it can sustain.

use record::PointSummary;
use stats::{share_at_least, share_at_most};

use crate::{
    format::number,
    summarise::pace::{ACHIEVED_SHARE, FAILED_SHARE, SLOPE_PERCENT_PER_MIN, is_long},
};

/// Confidence of each one-sided bound: that of the bounds of the slope.
const LEVEL: f64 = 0.95;

/// Why a rate was surely too much in a repetition, by a rule of sustained rates that is broken beyond chance; `None` where
/// it may have been kept up, or the load generator did not keep its schedule.
pub(super) fn surely_failed(point: &PointSummary) -> Option<String> {
    let rates = point.rates.filter(|_| point.validity.valid == Some(true))?;
    let measured = point.counts.measured;
    // Bounded by the rows of the window: answers of the warm-up that came late count as achieved as well.
    let answered = (rates.achieved_per_s * rates.window_s).round().clamp(0.0, measured as f64);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a count")]
    let achieved = share_at_most(answered as u64, measured, LEVEL)?;
    if achieved < ACHIEVED_SHARE {
        return Some(format!("at most {:.1} % of it were achieved, below 95 %", 100.0 * achieved));
    }
    let ok = point.counts.outcomes.get("ok").copied().unwrap_or(0);
    let failed = share_at_least(measured.saturating_sub(ok), measured, LEVEL)?;
    if failed >= FAILED_SHARE {
        return Some(format!("at least {:.2} % of the invocations failed, not below 1 %", 100.0 * failed));
    }
    let slope = point.pace.as_ref()?.slope_lower_percent_per_min?;
    (is_long(&rates, measured) && slope >= SLOPE_PERCENT_PER_MIN)
        .then(|| format!("latency grew by at least {} % of its median per minute, not below 5 %", number(slope)))
}
