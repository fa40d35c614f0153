//! The slope of a series with the ends of its one-sided 95 % intervals, by a method that outliers do not move.

use statrs::distribution::{ContinuousCDF, Normal};

use crate::sorted;

/// A fitted slope of independent points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Change of y per unit of x.
    pub slope: f64,
    /// Lower 95 % bound: with probability 0.95 the true slope is not less.
    pub lower: f64,
    /// Upper 95 % bound: with probability 0.95 the true slope is not greater. Noise and short runs raise it, so a rule
    /// that asks it to be small is never helped by them.
    pub upper: f64,
}

/// Confidence of each bound.
const CONFIDENCE: f64 = 0.95;

/// The estimator of Theil and Sen: the median of the slopes between all pairs of `points` (x, y), and the bounds from the
/// normal approximation of Kendall's statistic (Sen, 1968, equation 2.6). Up to 29 % of the points may lie anywhere without
/// moving it far. Takes memory for all pairs: meant for some hundred points.
///
/// The bounds hold for points that are independent of each other; [`crate::trend`] widens them for those that are not.
///
/// `None` for fewer than three points or when all x are the same.
#[must_use]
pub fn theil_sen(points: &[(f64, f64)]) -> Option<Slope> {
    PairSlopes::of(points).map(|slopes| slopes.with_bounds(1.0))
}

/// The slopes between all pairs of points.
pub(crate) struct PairSlopes {
    /// In ascending order; at least one.
    sorted: Vec<f64>,
    /// Variance of Kendall's statistic over these points, were they independent.
    variance: f64,
}

impl PairSlopes {
    /// `None` for fewer than three points or when all x are the same.
    pub(crate) fn of(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
        for (index, (x, y)) in points.iter().enumerate() {
            let others = points[index + 1..].iter().filter(|(other, _)| other != x);
            slopes.extend(others.map(|(other_x, other_y)| (other_y - y) / (other_x - x)));
        }
        let ties = repeats(points.iter().map(|(x, _)| *x)) + repeats(points.iter().map(|(_, y)| *y));
        let variance = ((term(points.len()) - ties) / 18.0).max(0.0);
        (!slopes.is_empty()).then(|| Self { sorted: sorted(slopes), variance })
    }

    /// Their median.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        let below = if self.sorted.len().is_multiple_of(2) { middle - 1 } else { middle };
        f64::midpoint(self.sorted[below], self.sorted[middle])
    }

    /// Their median with bounds for a statistic of Kendall whose variance is `inflation` times that of independent points.
    pub(crate) fn with_bounds(&self, inflation: f64) -> Slope {
        let z = Normal::standard().inverse_cdf(CONFIDENCE);
        let greatest = self.sorted.len() - 1;
        // Both bounds have the same rank, counted from the least or from the greatest slope.
        let rank = f64::midpoint(self.sorted.len() as f64, z * (inflation * self.variance).sqrt()).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ rank, and cut at the greatest")]
        let rank = (rank as usize).min(greatest);
        Slope { slope: self.median(), lower: self.sorted[greatest - rank], upper: self.sorted[rank] }
    }
}

/// What `count` equal values take from the variance, and all values are: 18 times the variance of Kendall's statistic.
fn term(count: usize) -> f64 {
    let count = count as f64;
    count * (count - 1.0) * (2.0 * count + 5.0)
}

/// The terms of all values that occur more than once.
fn repeats(values: impl Iterator<Item = f64>) -> f64 {
    let values = sorted(values.collect());
    values.chunk_by(|a, b| a == b).map(|equal| term(equal.len())).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `scipy.stats.theilslopes(y, x, alpha=0.9)`, scipy 1.17.1: its two-sided 90 % interval ends where ours does.
    #[test]
    fn slope_and_bound_are_those_of_scipy() {
        let y = [2.0, 2.3, 1.9, 2.8, 2.6, 3.1, 2.9, 3.3];
        let points: Vec<_> = (0_u32..).map(f64::from).zip(y).collect();
        let found = theil_sen(&points).unwrap();
        assert!((found.slope - 0.176_190_476_190_476_2).abs() < 1e-12, "{found:?}");
        assert!((found.lower - 0.1).abs() < 1e-12 && (found.upper - 0.28).abs() < 1e-12, "{found:?}");
    }

    /// As above with `x = list(range(200)); y = [((i*7919)%1000)/10 + 0.05*i for i in range(200)]`.
    #[test]
    fn a_longer_series_is_that_of_scipy() {
        let y = |i: i32| f64::from((i * 7919) % 1000) / 10.0 + 0.05 * f64::from(i);
        let points: Vec<_> = (0..200).map(|i| (f64::from(i), y(i))).collect();
        let found = theil_sen(&points).unwrap();
        assert!((found.slope - 0.038_235_294_117_647_055).abs() < 1e-12, "{found:?}");
        assert!((found.lower + 0.05).abs() < 1e-12, "{found:?}");
        assert!((found.upper - 0.098_148_148_148_148_15).abs() < 1e-12, "{found:?}");
    }

    /// As above with `x = [0,1,1,2,3,4,5,6,7,8]; y = [1,1,2,2,2,3,2.5,3,3.5,3]`.
    #[test]
    fn equal_values_count_as_they_do_in_scipy() {
        let x = [0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let y = [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 2.5, 3.0, 3.5, 3.0];
        let found = theil_sen(&x.into_iter().zip(y).collect::<Vec<_>>()).unwrap();
        assert!((found.slope - 0.2928571428571428).abs() < 1e-12 && (found.upper - 0.4).abs() < 1e-12, "{found:?}");
        assert!((found.lower - 0.166_666_666_666_666_66).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_pause_of_the_machine_near_the_end_is_no_growth() {
        let mut points: Vec<_> = (0..60_u32).map(|i| (f64::from(i), 50.0 + f64::from(i % 7))).collect();
        let before = theil_sen(&points).unwrap();
        points[57].1 = 900.0;
        let found = theil_sen(&points).unwrap();
        assert!(found.upper < before.upper + 0.02, "{before:?} {found:?}");
    }

    #[test]
    fn too_little_has_no_slope() {
        assert_eq!(theil_sen(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(theil_sen(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    proptest! {
        #[test]
        fn the_slope_is_within_its_bounds(y in prop::collection::vec(-1e3_f64..1e3, 3..60)) {
            let points: Vec<_> = (0_u32..).map(f64::from).zip(y).collect();
            let found = theil_sen(&points).unwrap();
            prop_assert!(found.lower <= found.slope && found.slope <= found.upper);
        }
    }
}
