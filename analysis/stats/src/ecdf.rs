//! The empirical distribution function, and a thinned form of it that a figure can draw.

use crate::quantile::sorted;

/// For each x, the share of values that do not exceed x.
#[derive(Clone, Debug, PartialEq)]
pub struct Ecdf {
    sorted: Vec<f64>,
}

impl Ecdf {
    /// Of these values, in any order.
    #[must_use]
    pub fn new(values: Vec<f64>) -> Self {
        Self { sorted: sorted(values) }
    }

    /// Share of the values that are ≤ x; 0 when there are none.
    #[must_use]
    pub fn at(&self, x: f64) -> f64 {
        if self.sorted.is_empty() {
            return 0.0;
        }
        self.sorted.partition_point(|value| *value <= x) as f64 / self.sorted.len() as f64
    }

    /// Corners (x, share of values ≤ x) of the step curve, in ascending order of both, ending at share 1.
    ///
    /// All of them when there are at most `limit` values; otherwise a selection of about `limit`, half of it evenly
    /// spaced by rank and half of it growing finer by a constant factor towards the greatest value, so that both the
    /// body and the far tail are drawn. Every corner returned is exact.
    #[must_use]
    pub fn corners(&self, limit: usize) -> Vec<(f64, f64)> {
        let count = self.sorted.len();
        let mut ranks: Vec<usize> =
            if count <= limit { (1..=count).collect() } else { selected_ranks(count, limit.max(2)) };
        ranks.sort_unstable();
        ranks.dedup();
        let mut corners: Vec<(f64, f64)> = Vec::with_capacity(ranks.len());
        for rank in ranks {
            let (x, share) = (self.sorted[rank - 1], self.at(self.sorted[rank - 1]));
            if corners.last().is_none_or(|(last, _)| *last < x) {
                corners.push((x, share));
            }
        }
        corners
    }

    /// The values in ascending order.
    #[must_use]
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }
}

/// Ranks from 1 to `count`, about `limit` of them, with both ends.
fn selected_ranks(count: usize, limit: usize) -> Vec<usize> {
    let body = limit / 2;
    let tail = limit - body;
    let even = (0..body).map(|i| 1 + i * (count - 1) / body);
    let step = (count as f64).ln() / tail as f64;
    let fine = (0..=tail).map(|i| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 ≤ exp ≤ count")]
        let from_end = (step * i as f64).exp().round() as usize;
        count + 1 - from_end.clamp(1, count)
    });
    even.chain(fine).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_share_one_corner() {
        let ecdf = Ecdf::new(vec![2.0, 1.0, 2.0, 4.0]);
        assert_eq!(ecdf.corners(10), [(1.0, 0.25), (2.0, 0.75), (4.0, 1.0)]);
        assert_eq!((ecdf.at(0.5), ecdf.at(2.0), ecdf.at(9.0)), (0.0, 0.75, 1.0));
    }

    #[test]
    fn a_long_tail_keeps_its_last_values() {
        let ecdf = Ecdf::new((1..=100_000).map(f64::from).collect());
        let corners = ecdf.corners(200);
        assert!(corners.len() <= 202, "about 200 corners, not {}", corners.len());
        let last: Vec<f64> = corners.iter().rev().take(3).map(|(x, _)| *x).collect();
        assert_eq!(last, [100_000.0, 99_999.0, 99_998.0]);
    }

    proptest! {
        #[test]
        fn thinned_corners_are_corners_of_the_whole(values in prop::collection::vec(0_u32..1000, 1..400), limit in 2_usize..40) {
            let ecdf = Ecdf::new(values.iter().copied().map(f64::from).collect());
            let corners = ecdf.corners(limit);
            prop_assert!(corners.len() <= limit + 2 || corners.len() <= values.len());
            prop_assert!(corners.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
            prop_assert!(corners.iter().all(|(x, share)| ecdf.at(*x) == *share));
            prop_assert_eq!(corners.last().unwrap().1, 1.0);
        }
    }
}
