//! Whether a rate was surely too much for a system: what the sustained rate of another one is compared with.

use record::PointSummary;
use stats::{RateWindow, is_long};

/// Why a rate was surely too much in a repetition, by a rule of sustained rates that is broken beyond chance; `None` where
/// it may have been kept up, or the load generator did not keep its schedule.
pub(super) fn surely_failed(point: &PointSummary) -> Option<String> {
    let rates = point.rates.filter(|_| point.validity.valid == Some(true))?;
    let measured = point.counts.measured;
    // Bounded by the rows of the window: answers of the warm-up that came late count as achieved as well.
    let answered = (rates.achieved_per_s * rates.window_s).round().clamp(0.0, measured as f64);
    let slope = point.pace.as_ref().and_then(|pace| pace.slope_lower_percent_per_min);
    let window = RateWindow {
        rows: measured,
        ok: point.counts.outcomes.get("ok").copied().unwrap_or(0),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a count")]
        achieved: answered as u64,
        slope_lower_percent_per_min: slope.filter(|_| is_long(rates.window_s, rates.offered_per_s, measured)),
    };
    window.overload().map(|why| why.to_string())
}
