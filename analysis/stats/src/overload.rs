//! Tests for an overloaded system at a constant rate: a rate that it surely failed, and growth of latency.
//!
//! A rate that does not pass the sustained-rate test is not surely failed: a short window never passes it. Nor does the
//! achieved rate bound the capacity: under overload it may be less than the system can sustain.

use std::fmt;

use crate::{Slope, Trend, quantile, share_at_least, share_at_most, trend};

/// Least share of an offered rate that must be achieved.
pub const ACHIEVED_SHARE: f64 = 0.95;
/// Share of failures that must not be reached.
pub const FAILED_SHARE: f64 = 0.01;
/// The slope of the latency must stay below this, in percent of its median per minute.
pub const SLOPE_PERCENT_PER_MIN: f64 = 5.0;
/// Confidence of each one-sided bound: that of the bounds of the slope.
const CONFIDENCE: f64 = 0.95;
/// Least length of a window whose slope says anything, in seconds.
const WINDOW_S: f64 = 60.0;
/// Least rows of such a window.
const ROWS: u64 = 100;
/// Blocks of rows that a window is divided into to find its slope, at most, and least rows of one.
const BLOCKS_MAX: usize = 100;
const BLOCK_ROWS_MIN: usize = 5;

/// Returns true if a window at a constant rate is long enough, and has enough rows, for its slope to be significant.
/// The window begins with the first measured row, up to one gap after the warm-up.
#[must_use]
pub fn is_long(window_s: f64, offered_per_s: f64, rows: u64) -> bool {
    window_s + 1.0 / offered_per_s >= WINDOW_S && rows >= ROWS
}

/// Counts and slope of a window at a constant rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateWindow {
    /// Rows that were due in it.
    pub rows: u64,
    /// Measured rows that succeeded, at any time.
    pub ok: u64,
    /// Successes that ended within it.
    pub achieved: u64,
    /// Lower 95 % bound of the latency's slope, in percent of its median per minute, where the window is long enough for one.
    pub slope_lower_percent_per_min: Option<f64>,
}

/// A rule of sustained rates that is broken beyond chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Overload {
    /// At most this share was achieved.
    Achieved(f64),
    /// At least this share failed.
    Failed(f64),
    /// Latency grew by at least so many percent of its median per minute.
    Growing(f64),
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Achieved(share) => write!(f, "at most {:.1} % of it were achieved, below 95 %", 100.0 * share),
            Self::Failed(share) => {
                write!(f, "at least {:.2} % of the invocations failed, not below 1 %", 100.0 * share)
            }
            Self::Growing(percent) => {
                write!(f, "latency grew by at least {percent:.2} % of its median per minute, not below 5 %")
            }
        }
    }
}

impl RateWindow {
    /// The reason why the rate was surely failed; `None` if the system may have kept up.
    #[must_use]
    pub fn overload(&self) -> Option<Overload> {
        let achieved = share_at_most(self.achieved.min(self.rows), self.rows, CONFIDENCE)?;
        if achieved < ACHIEVED_SHARE {
            return Some(Overload::Achieved(achieved));
        }
        let failed = share_at_least(self.rows.saturating_sub(self.ok), self.rows, CONFIDENCE)?;
        if failed >= FAILED_SHARE {
            return Some(Overload::Failed(failed));
        }
        self.slope_lower_percent_per_min.filter(|slope| *slope >= SLOPE_PERCENT_PER_MIN).map(Overload::Growing)
    }
}

/// Slope of latencies over when they were due (both in nanoseconds), and its bounds, in percent of their median per minute.
///
/// Rows that follow each other depend on each other, and a pause of the machine is not growth: the slope is that of means
/// of blocks, by an estimator that a few of them do not move, and its bounds allow for blocks that depend on each other.
/// `None` for too few rows, or where half of them took no time.
#[must_use]
pub fn growth(mut due_and_latency_ns: Vec<(u64, u64)>) -> Option<Trend> {
    let points = &mut due_and_latency_ns;
    points.sort_by_key(|(due, _)| *due);
    let size = points.len().div_ceil(BLOCKS_MAX).max(BLOCK_ROWS_MIN);
    let blocks: Vec<(f64, f64)> = points.rchunks_exact(size).map(middle).collect();
    let found = trend(&blocks)?;
    let mut latencies: Vec<u64> = points.iter().map(|(_, latency)| *latency).collect();
    latencies.sort_unstable();
    let median = quantile(&latencies, 0.5).filter(|median| *median > 0)? as f64;
    let percent = |slope: f64| 100.0 * slope / median;
    let Slope { slope, lower, upper } = found.slope;
    Some(Trend { slope: Slope { slope: percent(slope), lower: percent(lower), upper: percent(upper) }, ..found })
}

/// Of a block: when its rows were due, in minutes, and how long they took, in nanoseconds, both in their mean.
fn middle(block: &[(u64, u64)]) -> (f64, f64) {
    let sum = |value: fn(&(u64, u64)) -> u64| block.iter().map(|row| value(row) as f64).sum::<f64>();
    let count = block.len() as f64;
    (sum(|(due, _)| *due) / count / 60e9, sum(|(_, latency)| *latency) / count)
}
