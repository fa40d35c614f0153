//! Bootstrap percentile intervals of a median, and of a ratio of two medians.

use rand::RngExt;
use rand_pcg::Pcg64;

use crate::quantile::{median, quantile, sorted};

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Interval {
    /// Returns true if `value` is outside the interval.
    #[must_use]
    pub fn excludes(&self, value: f64) -> bool {
        value < self.lower || value > self.upper
    }
}

/// Resamples drawn for one interval: enough that the error of its ends is well below the spread of repetitions.
const RESAMPLES: usize = 10_000;

/// Percentile interval (Efron 1979) of the median at `confidence` (for example 0.95), from 10,000 resamples
/// drawn with `random`; the same generator state gives the same interval.
///
/// `None` for fewer than two values: one repetition says nothing about spread.
#[must_use]
pub fn median_interval(values: &[f64], confidence: f64, random: &mut Pcg64) -> Option<Interval> {
    if values.len() < 2 {
        return None;
    }
    interval_of(confidence, || median(&resample(values, random)))
}

/// Percentile interval of median(`above`) / median(`below`), both samples resampled independently.
///
/// `None` for fewer than two values on a side, or when a denominator is not positive.
#[must_use]
pub fn median_ratio_interval(above: &[f64], below: &[f64], confidence: f64, random: &mut Pcg64) -> Option<Interval> {
    if above.len() < 2 || below.len() < 2 || below.iter().any(|value| *value <= 0.0) {
        return None;
    }
    interval_of(confidence, || Some(median(&resample(above, random))? / median(&resample(below, random))?))
}

fn interval_of(confidence: f64, mut statistic: impl FnMut() -> Option<f64>) -> Option<Interval> {
    let found: Option<Vec<f64>> = (0..RESAMPLES).map(|_| statistic()).collect();
    let found = sorted(found?);
    let outside = (1.0 - confidence) / 2.0;
    Some(Interval { lower: quantile(&found, outside)?, upper: quantile(&found, 1.0 - outside)? })
}

fn resample(values: &[f64], random: &mut Pcg64) -> Vec<f64> {
    (0..values.len()).map(|_| values[random.random_range(0..values.len())]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    /// `scipy.stats.bootstrap((v,), numpy.median, method='percentile', confidence_level=.95)` gives (9.8, 15.2): with
    /// five values the exact bootstrap distribution puts more than 2.5 % on each extreme.
    #[test]
    fn five_values_give_the_interval_of_scipy() {
        let values = [12.1, 9.8, 10.4, 15.2, 11.0];
        let found = median_interval(&values, 0.95, &mut Pcg64::seed_from_u64(1)).unwrap();
        assert_eq!(found, Interval { lower: 9.8, upper: 15.2 });
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let values: Vec<f64> = (0..30).map(f64::from).collect();
        let draw = |seed| median_interval(&values, 0.95, &mut Pcg64::seed_from_u64(seed)).unwrap();
        assert_eq!(draw(7), draw(7));
    }

    #[test]
    fn one_repetition_has_no_interval() {
        assert_eq!(median_interval(&[3.0], 0.95, &mut Pcg64::seed_from_u64(1)), None);
    }

    #[test]
    fn a_clear_ratio_excludes_one() {
        let slow = [100.0, 110.0, 105.0, 95.0, 102.0];
        let fast = [10.0, 11.0, 9.0, 10.5, 9.5];
        let found = median_ratio_interval(&slow, &fast, 0.95, &mut Pcg64::seed_from_u64(1)).unwrap();
        assert!(found.lower > 8.0 && found.upper < 13.0, "{found:?}");
        assert!(found.excludes(1.0) && !found.excludes(10.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn an_interval_holds_the_median_and_stays_within_the_values(values in prop::collection::vec(0.0_f64..100.0, 2..12)) {
            let found = median_interval(&values, 0.95, &mut Pcg64::seed_from_u64(5)).unwrap();
            let all = sorted(values.clone());
            prop_assert!(!found.excludes(median(&values).unwrap()));
            prop_assert!(found.lower >= all[0] && found.upper <= *all.last().unwrap());
        }
    }
}
