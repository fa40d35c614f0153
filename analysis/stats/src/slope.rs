//! Least-squares slope with the upper end of its one-sided 95 % interval.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A fitted slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Change of y per unit of x.
    pub slope: f64,
    /// Upper 95 % bound: with probability 0.95 the true slope is not greater. Noise and short runs raise it, so a rule
    /// that asks it to be small is never helped by them.
    pub upper: f64,
}

/// Confidence of [`Slope::upper`].
const LEVEL: f64 = 0.95;

/// Ordinary least squares of `points` (x, y), the bound from Student's t with n − 2 degrees of freedom.
///
/// `None` for fewer than three points or when all x are the same.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread_x: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if spread_x <= 0.0 {
        return None;
    }
    let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread_x;
    let residual: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
    let freedom = count - 2.0;
    let error = (residual / freedom / spread_x).sqrt();
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(Slope { slope, upper: slope + student.inverse_cdf(LEVEL) * error })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `r = scipy.stats.linregress(x, y); r.slope + scipy.stats.t.ppf(.95, len(x) - 2) * r.stderr`, scipy 1.17.1.
    #[test]
    fn slope_and_bound_are_those_of_scipy() {
        let y = [2.0, 2.3, 1.9, 2.8, 2.6, 3.1, 2.9, 3.3];
        let points: Vec<_> = (0_u32..).map(f64::from).zip(y).collect();
        let found = slope(&points).unwrap();
        assert!((found.slope - 0.184_523_809_523_809_53).abs() < 1e-12, "{found:?}");
        assert!((found.upper - 0.259_851_563_032_757_1).abs() < 1e-9, "{found:?}");
    }

    /// As above with `x = list(range(200)); y = [((i*7919)%1000)/10 + 0.05*i for i in range(200)]`.
    #[test]
    fn a_longer_series_is_that_of_scipy() {
        let y = |i: i32| f64::from((i * 7919) % 1000) / 10.0 + 0.05 * f64::from(i);
        let points: Vec<_> = (0..200).map(|i| (f64::from(i), y(i))).collect();
        let found = slope(&points).unwrap();
        assert!((found.slope - 0.046_827_420_685_517_1).abs() < 1e-12, "{found:?}");
        assert!((found.upper - 0.106_012_288_946_672_99).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn too_little_has_no_slope() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
    }

    proptest! {
        #[test]
        fn the_bound_is_never_below_the_slope(y in prop::collection::vec(-1e3_f64..1e3, 3..60)) {
            let points: Vec<_> = (0_u32..).map(f64::from).zip(y).collect();
            let found = slope(&points).unwrap();
            prop_assert!(found.upper >= found.slope);
        }
    }
}
