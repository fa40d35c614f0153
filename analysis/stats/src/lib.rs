//! Statistics behind every claim outcome: exact quantiles, distribution functions, intervals, tests, the four
//! definitions of slowdown, and the rule for valid repetitions.
//!
//! Pure functions of plain values; nothing here reads a file or a clock. Each function says which textbook definition
//! it follows, and its tests hold values computed by scipy.

mod binomial;
mod bootstrap;
mod ecdf;
mod mann_whitney;
mod mean;
mod overload;
mod quantile;
mod slope;
mod slowdown;
mod trend;
mod validity;

pub use binomial::{share_at_least, share_at_most};
pub use bootstrap::{Interval, median_interval, median_ratio_interval};
pub use ecdf::Ecdf;
pub use mann_whitney::{MannWhitney, mann_whitney};
pub use mean::{geometric_mean, mean};
pub use overload::{ACHIEVED_SHARE, FAILED_SHARE, Overload, RateWindow, SLOPE_PERCENT_PER_MIN, growth, is_long};
pub use quantile::{median, quantile, sorted};
pub use slope::{Slope, theil_sen};
pub use slowdown::{Definition, Ending, FailurePolicy, Invocation, Slowdowns, TIME_RESOLUTION_NS};
pub use trend::{Trend, trend};
pub use validity::{Lateness, Punctuality, Rule, RuleResult, Sending, Sent, crowded};
