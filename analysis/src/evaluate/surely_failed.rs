//! The test for a surely failed rate, which bounds the capacity of the reference from above.

use record::PointSummary;
use stats::{RateWindow, is_long};

/// The reason why a rate was surely failed: a rule of the sustained-rate test that is broken beyond chance. `None` if the system
/// may have kept up, or the load generator did not keep its schedule.
pub(super) fn surely_failed(point: &PointSummary) -> Option<String> {
    let rates = point.rates.filter(|_| point.validity.valid == Some(true))?;
    let measured = point.counts.measured;
    // Late responses of the warm-up count as achieved too, so that the rate could give more than there are rows.
    let achieved = (rates.achieved_per_s * rates.window_s).round().clamp(0.0, measured as f64);
    let slope = point.rate_test.as_ref().and_then(|rate_test| rate_test.slope_lower_percent_per_min);
    let window = RateWindow {
        rows: measured,
        ok: point.counts.ok(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a count")]
        achieved: achieved as u64,
        slope_lower_percent_per_min: slope.filter(|_| is_long(rates.window_s, rates.offered_per_s, measured)),
    };
    window.overload().map(|why| why.to_string())
}
