//! Exact quantiles of sorted values, and the conventional median of a few repetitions.

/// Slack, as a share of n, that keeps a product such as 0.07 · 100 = 7.000…01 from being rounded up a rank.
const RANK_SLACK: f64 = 1e-12;

/// The `q`-quantile (0 ≤ q ≤ 1) of values sorted in ascending order: the smallest value that at least a share `q` of
/// all values does not exceed.
///
/// This is the inverse of the empirical distribution function, type 1 of Hyndman and Fan (1996) and numpy's
/// `inverted_cdf`. The result is always one of the values, so a percentile in a table is a row that can be looked up.
/// `None` when there are no values.
#[must_use]
pub fn quantile<T: Copy + PartialOrd>(sorted: &[T], q: f64) -> Option<T> {
    debug_assert!(sorted.is_sorted(), "quantiles are taken of sorted values");
    debug_assert!((0.0..=1.0).contains(&q), "a quantile lies in 0..=1, not at {q}");
    let count = sorted.len();
    let rank = (q * count as f64 - count as f64 * RANK_SLACK).ceil().max(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 ≤ rank ≤ count")]
    let rank = rank as usize;
    sorted.get(rank.min(count).checked_sub(1)?).copied()
}

/// The median in its conventional form: the mean of the two middle values of an even number.
///
/// Used over repetitions, of which there are few; percentiles over rows use [`quantile`]. The values need not be
/// sorted. `None` when there are none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let values = sorted(values.to_vec());
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = values[values.len() / 2 - 1];
    Some(f64::midpoint(lower, upper))
}

/// The same values in ascending order.
#[must_use]
pub fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `d = [((i*7919)%1009)/7 for i in range(1000)]`
    fn thousand() -> Vec<f64> {
        sorted((0..1000).map(|i| f64::from((i * 7919) % 1009) / 7.0).collect())
    }

    /// Values of `numpy.quantile(d, q, method='inverted_cdf')`, numpy 2.
    #[test]
    fn quantiles_are_those_of_numpy() {
        let expected = [
            (0.0, 0.0),
            (0.01, 1.285_714_285_714_285_8),
            (0.07, 10.0),
            (0.5, 72.142_857_142_857_14),
            (0.9, 129.571_428_571_428_58),
            (0.99, 142.571_428_571_428_58),
            (0.999, 143.857_142_857_142_86),
            (1.0, 144.0),
        ];
        let values = thousand();
        for (q, value) in expected {
            assert_eq!(quantile(&values, q), Some(value), "the {q}-quantile");
        }
    }

    #[test]
    fn nothing_has_no_quantile_and_no_median() {
        assert_eq!(quantile::<u64>(&[], 0.5), None);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    }

    proptest! {
        /// The definition itself: at least q of the values are ≤ it, and less than q are below it.
        #[test]
        fn a_quantile_keeps_its_definition(mut values in prop::collection::vec(0_u32..50, 1..200), percent in 0_u32..=100) {
            values.sort_unstable();
            let found = quantile(&values, f64::from(percent) / 100.0).unwrap();
            let at_most = values.iter().filter(|v| **v <= found).count() * 100;
            let below = values.iter().filter(|v| **v < found).count() * 100;
            let wanted = percent as usize * values.len();
            prop_assert!(at_most >= wanted);
            prop_assert!(below < wanted.max(1));
        }
    }
}
