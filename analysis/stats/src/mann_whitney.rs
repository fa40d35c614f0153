//! The Mann-Whitney U test of whether one of two samples tends to be greater.

use statrs::function::erf::erfc;

/// Result of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    /// U of the first sample: pairs in which its value is greater, ties counting one half.
    pub u: f64,
    /// Two-sided p.
    pub p: f64,
    /// True if `p` counts every arrangement of the ranks, false if it is the normal approximation.
    pub exact: bool,
}

/// Greatest total number of values for which all arrangements are counted. Five against five needs it: there the normal
/// approximation cannot get below p = 0.012. At 40 the table has 20 × 1,640 cells and every count is exact in an f64.
const EXACT_LIMIT: usize = 40;

/// Two-sided test of `first` against `second` (Mann and Whitney 1947).
///
/// Up to 40 values in all, p is exact, also with ties: the share of all ways to split the observed mid-ranks that are at
/// least as extreme, the smaller tail doubled. Beyond, the normal approximation with tie and continuity correction.
/// `None` when a sample is empty.
#[must_use]
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<MannWhitney> {
    if first.is_empty() || second.is_empty() {
        return None;
    }
    let ranked = Ranked::of(first, second);
    let least_sum = first.len() * (first.len() + 1);
    let u = (ranked.first_sum - least_sum) as f64 / 2.0;
    let exact = first.len() + second.len() <= EXACT_LIMIT;
    let p = if exact { ranked.exact_p(first.len()) } else { ranked.normal_p(u, first.len(), second.len()) };
    Some(MannWhitney { u, p, exact })
}

/// Mid-ranks of both samples together, doubled so that they are whole numbers.
struct Ranked {
    doubled: Vec<usize>,
    first_sum: usize,
    /// Σ (t³ − t) over groups of t equal values.
    ties: f64,
}

impl Ranked {
    fn of(first: &[f64], second: &[f64]) -> Self {
        let mut values: Vec<(f64, bool)> =
            first.iter().map(|value| (*value, true)).chain(second.iter().map(|value| (*value, false))).collect();
        values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranked = Self { doubled: Vec::with_capacity(values.len()), first_sum: 0, ties: 0.0 };
        for group in values.chunk_by(|a, b| a.0 == b.0) {
            let before = ranked.doubled.len();
            let rank = 2 * before + group.len() + 1;
            ranked.doubled.extend(std::iter::repeat_n(rank, group.len()));
            ranked.first_sum += rank * group.iter().filter(|(_, is_first)| *is_first).count();
            let size = group.len() as f64;
            ranked.ties += size * size * size - size;
        }
        ranked
    }

    /// Counts, for every sum, the ways to choose `taken` of the ranks with that sum.
    fn exact_p(&self, taken: usize) -> f64 {
        let greatest: usize = self.doubled.iter().sum();
        let mut ways = vec![vec![0.0_f64; greatest + 1]; taken + 1];
        ways[0][0] = 1.0;
        for rank in &self.doubled {
            for chosen in (1..=taken).rev() {
                let (less, more) = ways.split_at_mut(chosen);
                for sum in *rank..=greatest {
                    more[0][sum] += less[chosen - 1][sum - rank];
                }
            }
        }
        let total: f64 = ways[taken].iter().sum();
        let at_most: f64 = ways[taken][..=self.first_sum].iter().sum();
        let at_least: f64 = ways[taken][self.first_sum..].iter().sum();
        (2.0 * at_most.min(at_least) / total).min(1.0)
    }

    fn normal_p(&self, u: f64, first: usize, second: usize) -> f64 {
        let (n, m, all) = (first as f64, second as f64, (first + second) as f64);
        let variance = n * m / 12.0 * (all + 1.0 - self.ties / (all * (all - 1.0)));
        if variance <= 0.0 {
            return 1.0; // every value is the same
        }
        let z = ((u - n * m / 2.0).abs() - 0.5) / variance.sqrt();
        erfc(z / std::f64::consts::SQRT_2).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expect(first: &[f64], second: &[f64], u: f64, p: f64) {
        let found = mann_whitney(first, second).unwrap();
        assert_eq!(found.u, u);
        assert!((found.p - p).abs() < 1e-9, "p is {}, scipy says {p}", found.p);
    }

    /// `scipy.stats.mannwhitneyu(a, b, alternative='two-sided', method='exact')`, scipy 1.17.1.
    #[test]
    fn exact_without_ties_as_scipy() {
        expect(&[1.1, 2.2, 3.3, 4.4, 5.5], &[6.1, 7.2, 8.3, 9.4, 10.5], 0.0, 0.007_936_507_936_507_936);
        expect(&[3.1, 4.5, 2.8, 5.9, 1.2, 7.7], &[4.0, 6.1, 8.8, 5.0], 6.0, 0.257_142_857_142_857_1);
    }

    /// `scipy.stats.mannwhitneyu(a, b, method=scipy.stats.PermutationMethod(n_resamples=numpy.inf))`, scipy 1.17.1.
    #[test]
    fn exact_with_ties_as_scipy() {
        expect(&[1.0, 2.0, 2.0, 3.0, 5.0], &[2.0, 3.0, 4.0, 4.0, 6.0], 6.5, 0.222_222_222_222_222_2);
        expect(&[1.0, 1.0, 2.0], &[2.0, 3.0, 3.0, 3.0, 4.0, 4.0, 9.0], 0.5, 0.033_333_333_333_333_33);
    }

    /// `scipy.stats.mannwhitneyu(a, b, alternative='two-sided', method='asymptotic')`, scipy 1.17.1, with
    /// `a = [(i*37)%101 for i in range(40)]; b = [(i*53+20)%107 for i in range(50)]`, then
    /// `a = [i%7 for i in range(60)]; b = [i%9 for i in range(45)]`.
    #[test]
    fn normal_approximation_as_scipy() {
        let a: Vec<f64> = (0..40).map(|i| f64::from((i * 37) % 101)).collect();
        let b: Vec<f64> = (0..50).map(|i| f64::from((i * 53 + 20) % 107)).collect();
        expect(&a, &b, 1139.0, 0.260_715_980_154_419_3);
        let a: Vec<f64> = (0..60).map(|i| f64::from(i % 7)).collect();
        let b: Vec<f64> = (0..45).map(|i| f64::from(i % 9)).collect();
        expect(&a, &b, 1020.0, 0.031_546_926_063_827_22);
    }

    #[test]
    fn equal_values_show_no_difference() {
        assert_eq!(mann_whitney(&[2.0; 30], &[2.0; 30]).unwrap().p, 1.0);
        assert_eq!(mann_whitney(&[2.0; 3], &[2.0; 4]).unwrap().p, 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), None);
    }

    proptest! {
        #[test]
        fn swapping_the_samples_changes_nothing_but_u(
            a in prop::collection::vec(0_i32..20, 1..30),
            b in prop::collection::vec(0_i32..20, 1..30),
        ) {
            let a: Vec<f64> = a.into_iter().map(f64::from).collect();
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let (one, other) = (mann_whitney(&a, &b).unwrap(), mann_whitney(&b, &a).unwrap());
            prop_assert!((one.p - other.p).abs() < 1e-9);
            prop_assert!((one.u + other.u - (a.len() * b.len()) as f64).abs() < 1e-9);
            prop_assert!(one.p > 0.0 && one.p <= 1.0);
        }
    }
}
