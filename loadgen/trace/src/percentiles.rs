//! Run times and memory of a function as published: a few percentiles, with straight lines between them.
//! Owns the inverse transform that turns a uniform number into a run time or a memory size.

use serde::Serialize;
use thiserror::Error;

/// A percentile is not a number of its kind. `percentile` says which, so that a reader can name the column.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{problem}")]
pub struct PercentileError {
    /// The percentile: 50 is the median.
    pub percentile: f64,
    /// The expected and the given value.
    pub problem: String,
}

/// Run times of one function, in milliseconds: percentiles 0, 1, 25, 50, 75, 99 and 100.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunTime {
    values_ms: [f64; 7],
    /// The average the trace states, in milliseconds. Not what is drawn: see [`RunTime::mean_ms`].
    pub average_ms: Option<f64>,
}

impl RunTime {
    /// The percentiles held.
    pub const PERCENTILES: [f64; 7] = [0.0, 1.0, 25.0, 50.0, 75.0, 99.0, 100.0];
    /// Greatest run time accepted, in milliseconds: 30 days, beyond any platform's limit.
    pub const LIMIT_MS: f64 = 30.0 * 86_400_000.0;

    /// Run times from the values at [`RunTime::LEVELS`], in milliseconds.
    ///
    /// # Errors
    /// A value that is not finite, negative, above [`RunTime::LIMIT_MS`] or less than the one before.
    pub fn new(values_ms: [f64; 7]) -> Result<Self, PercentileError> {
        check(&Self::PERCENTILES, &values_ms, Self::LIMIT_MS)?;
        Ok(Self { values_ms, average_ms: None })
    }

    /// A function that always runs for the same time, in milliseconds, held within 0 and [`RunTime::LIMIT_MS`].
    #[must_use]
    pub fn constant(value_ms: f64) -> Self {
        let value_ms = held(value_ms, Self::LIMIT_MS);
        Self { values_ms: [value_ms; 7], average_ms: Some(value_ms) }
    }

    /// Both as one, `share` (0 to 1) of whose calls are `other`'s: the average of each percentile, and the extremes of
    /// both.
    pub(crate) fn merged(&self, other: &Self, share: f64) -> Self {
        let mut values_ms = average(&self.values_ms, &other.values_ms, share);
        values_ms[0] = self.values_ms[0].min(other.values_ms[0]);
        values_ms[6] = self.values_ms[6].max(other.values_ms[6]);
        let both = self.average_ms.zip(other.average_ms);
        Self { values_ms, average_ms: both.map(|(own, more)| own + share * (more - own)) }
    }

    /// Each percentile held within the bounds. Between one that was and one that was not is a straight line, where draws
    /// that are held one by one would bend, so the two means differ a little.
    pub(crate) fn clamped(&self, bounds_ms: (f64, f64)) -> Self {
        let held = Self { values_ms: self.values_ms.map(|value| clamp(value, bounds_ms)), average_ms: None };
        if held.values_ms == self.values_ms {
            return self.clone();
        }
        // The average that the trace states is of other run times, and which share of them is held nobody knows.
        Self { average_ms: self.average_ms.map(|_| held.mean_ms()), ..held }
    }

    /// The values at [`RunTime::LEVELS`], in milliseconds.
    #[must_use]
    pub fn values_ms(&self) -> &[f64; 7] {
        &self.values_ms
    }

    /// Run time at `share` (0 to 1) of the distribution, in milliseconds.
    #[must_use]
    pub fn at(&self, share: f64) -> f64 {
        interpolate(&Self::PERCENTILES, &self.values_ms, share)
    }

    /// Mean of what [`RunTime::at`] gives for a uniform share, in milliseconds. It differs from the trace's own average
    /// (on the 500-function Azure sample it is a fifth greater), because straight lines between the 75th, 99th and
    /// 100th percentile lie above the true, convex curve. What a run executes is this mean, so budgets are made from
    /// it.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        self.clamped_mean_ms(0.0, f64::INFINITY)
    }

    /// As [`RunTime::mean_ms`], when each draw is held within `least_ms` and `greatest_ms`.
    #[must_use]
    pub fn clamped_mean_ms(&self, min_ms: f64, max_ms: f64) -> f64 {
        mean(&Self::PERCENTILES, &self.values_ms, (min_ms, max_ms))
    }
}

/// Memory of one function, in MiB: percentiles 1, 5, 25, 50, 75, 95, 99 and 100.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    values_mib: [f64; 8],
}

impl Memory {
    /// The percentiles held.
    pub const PERCENTILES: [f64; 8] = [1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 100.0];
    /// Greatest size accepted, in MiB: 1 TiB, beyond any platform's limit.
    pub const LIMIT_MIB: f64 = 1_048_576.0;

    /// Memory from the values at [`Memory::LEVELS`], in MiB.
    ///
    /// # Errors
    /// A value that is not finite, negative, above [`Memory::LIMIT_MIB`] or less than the one before.
    pub fn new(values_mib: [f64; 8]) -> Result<Self, PercentileError> {
        check(&Self::PERCENTILES, &values_mib, Self::LIMIT_MIB)?;
        Ok(Self { values_mib })
    }

    /// A function that always needs the same, in MiB, held within 0 and [`Memory::LIMIT_MIB`].
    #[must_use]
    pub fn constant(value_mib: f64) -> Self {
        Self { values_mib: [held(value_mib, Self::LIMIT_MIB); 8] }
    }

    /// Both as one, `share` (0 to 1) of whose samples are `other`'s: the average of each percentile, and the greatest of
    /// both.
    pub(crate) fn merged(&self, other: &Self, share: f64) -> Self {
        let mut values_mib = average(&self.values_mib, &other.values_mib, share);
        values_mib[7] = self.max_mib().max(other.max_mib());
        Self { values_mib }
    }

    /// The values at [`Memory::LEVELS`], in MiB.
    #[must_use]
    pub fn values_mib(&self) -> &[f64; 8] {
        &self.values_mib
    }

    /// Memory at `share` (0 to 1) of the distribution, in MiB; below the first percentile, that percentile.
    #[must_use]
    pub fn at(&self, share: f64) -> f64 {
        interpolate(&Self::PERCENTILES, &self.values_mib, share)
    }

    /// Mean of what [`Memory::at`] gives for a uniform share, in MiB.
    #[must_use]
    pub fn mean_mib(&self) -> f64 {
        mean(&Self::PERCENTILES, &self.values_mib, (0.0, f64::INFINITY))
    }

    /// The greatest, in MiB: what a sandbox of this function has to reserve.
    #[must_use]
    pub fn max_mib(&self) -> f64 {
        self.values_mib[self.values_mib.len() - 1]
    }

    /// Every percentile times `factor`; how an application's memory is shared among its functions.
    #[must_use]
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        Self { values_mib: self.values_mib.map(|value| value * factor) }
    }
}

/// Rising values stay rising.
fn average<const N: usize>(own: &[f64; N], other: &[f64; N], share: f64) -> [f64; N] {
    let mut average = *own;
    for (value, other) in average.iter_mut().zip(other) {
        *value += share * (other - *value);
    }
    average
}

fn check<const N: usize>(percentiles: &[f64; N], values: &[f64; N], limit: f64) -> Result<(), PercentileError> {
    let mut least = 0.0;
    for (&percentile, &value) in percentiles.iter().zip(values) {
        let problem = if !value.is_finite() {
            format!("expected a finite number, found {value}")
        } else if value < 0.0 {
            format!("expected a number of at least 0, found {value}")
        } else if value > limit {
            format!("expected at most {limit}, found {value}")
        } else if value < least {
            format!("expected at least {least}, the percentile before it, found {value}")
        } else {
            least = value;
            continue;
        };
        return Err(PercentileError { percentile, problem });
    }
    Ok(())
}

/// The value at `share`, on straight lines between the percentiles.
fn interpolate<const N: usize>(percentiles: &[f64; N], values: &[f64; N], share: f64) -> f64 {
    let percentile = share * 100.0;
    if percentile <= percentiles[0] {
        return values[0];
    }
    for upper in 1..N {
        if percentile <= percentiles[upper] {
            let lower = upper - 1;
            let part = (percentile - percentiles[lower]) / (percentiles[upper] - percentiles[lower]);
            // Rounding must not carry a draw past the percentile it is below.
            return (values[lower] + part * (values[upper] - values[lower])).min(values[upper]);
        }
    }
    values[N - 1]
}

/// Exact mean of the piecewise linear distribution, each value held within the bounds.
fn mean<const N: usize>(percentiles: &[f64; N], values: &[f64; N], bounds: (f64, f64)) -> f64 {
    let below_first = percentiles[0] / 100.0 * clamp(values[0], bounds);
    let segments = (1..N).map(|upper| {
        let share = (percentiles[upper] - percentiles[upper - 1]) / 100.0;
        share * segment_mean(values[upper - 1], values[upper], bounds)
    });
    below_first + segments.sum::<f64>()
}

/// Mean of a uniform number between `from` and `to`, held within the bounds: the areas of the flat part below, the
/// sloped part and the flat part above.
fn segment_mean(from: f64, to: f64, bounds: (f64, f64)) -> f64 {
    let width = to - from;
    if width <= 0.0 {
        return clamp(from, bounds);
    }
    let (inner_from, inner_to) = (clamp(from, bounds), clamp(to, bounds));
    let below = (inner_from - from).clamp(0.0, width) * inner_from;
    let above = (to - inner_to).clamp(0.0, width) * inner_to;
    let sloped = (inner_to - inner_from) * (inner_to + inner_from) / 2.0;
    (below + sloped + above) / width
}

/// Within 0 and the limit; 0 for what is not a number.
fn held(value: f64, limit: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, limit) }
}

fn clamp(value: f64, (least, greatest): (f64, f64)) -> f64 {
    value.min(greatest).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_time() -> RunTime {
        RunTime::new([0.0, 10.0, 20.0, 40.0, 80.0, 100.0, 1000.0]).unwrap()
    }

    #[test]
    fn at_a_percentile_the_published_value_and_between_them_a_straight_line() {
        let run_time = run_time();
        for (percentile, value) in RunTime::PERCENTILES.iter().zip(run_time.values_ms()) {
            assert!(
                (run_time.at(percentile / 100.0) - value).abs() < 1e-9,
                "at {percentile}: {}",
                run_time.at(percentile / 100.0)
            );
        }
        assert!((run_time.at(0.375) - 30.0).abs() < 1e-9, "half way between 20 and 40");
        assert!((run_time.at(0.995) - 550.0).abs() < 1e-9, "half way between 100 and 1000");
    }

    #[test]
    fn the_mean_is_the_mean_of_the_draws_with_and_without_bounds() {
        let run_time = run_time();
        for (least, greatest) in [(0.0, f64::INFINITY), (15.0, 90.0), (1.0, 550.0), (2000.0, 3000.0), (0.0, 0.5)] {
            let steps = 200_000;
            let draws = (0..steps).map(|step| run_time.at((f64::from(step) + 0.5) / f64::from(steps)));
            let numeric = draws.map(|value| value.max(least).min(greatest)).sum::<f64>() / f64::from(steps);
            let exact = run_time.clamped_mean_ms(least, greatest);
            assert!((numeric - exact).abs() < 1e-3, "within {least}..{greatest}: drawn {numeric}, exact {exact}");
        }
    }

    #[test]
    fn memory_below_its_first_percentile_is_that_percentile() {
        let memory = Memory::new([5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]).unwrap();
        assert!((memory.at(0.0) - 5.0).abs() < 1e-12);
        assert!((memory.at(1.0) - 12.0).abs() < 1e-12);
        assert!((memory.max_mib() - 12.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_distribution_is_refused_with_its_percentile() {
        let decreasing = RunTime::new([0.0, 10.0, 20.0, 19.0, 80.0, 100.0, 1000.0]).unwrap_err();
        assert!((decreasing.percentile - 50.0).abs() < 1e-12, "{decreasing:?}");
        assert!(decreasing.to_string().contains("at least 20"), "{decreasing}");
        for bad in [f64::NAN, f64::INFINITY, -1.0, RunTime::LIMIT_MS * 2.0] {
            assert!(RunTime::new([bad; 7]).is_err(), "{bad} must be refused");
            assert!(Memory::new([bad; 8]).is_err(), "{bad} must be refused");
        }
    }
}
