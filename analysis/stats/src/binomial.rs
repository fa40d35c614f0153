//! Bounds of a share, from the cases observed.

use statrs::function::beta::inv_beta_reg;

/// The greatest share of successes that `count` of `of` leave open: the one-sided upper bound of Clopper and Pearson
/// (1934) at `confidence` (for example 0.95). More than `of` count as all; `None` without a case.
#[must_use]
pub fn share_at_most(count: u64, of: u64, confidence: f64) -> Option<f64> {
    match count {
        _ if of == 0 => None,
        _ if count >= of => Some(1.0),
        _ => Some(inv_beta_reg(count as f64 + 1.0, (of - count) as f64, confidence)),
    }
}

/// The least share that they leave open, likewise.
#[must_use]
pub fn share_at_least(count: u64, of: u64, confidence: f64) -> Option<f64> {
    Some(1.0 - share_at_most(of.saturating_sub(count), of, confidence)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }

    #[test]
    fn bounds_at_the_ends_have_a_closed_form() {
        assert_close(share_at_most(0, 10, 0.95), 1.0 - 0.05_f64.powf(0.1));
        assert_close(share_at_most(9, 10, 0.95), 0.95_f64.powf(0.1));
        assert_close(share_at_least(10, 10, 0.95), 0.05_f64.powf(0.1));
        assert_eq!((share_at_most(10, 10, 0.95), share_at_most(11, 10, 0.95)), (Some(1.0), Some(1.0)));
        assert_eq!((share_at_least(0, 10, 0.95), share_at_most(0, 0, 0.95)), (Some(0.0), None));
    }

    /// The share at which the binomial distribution's tail is 5 %, found by bisection of its sum.
    #[test]
    fn bounds_between_leave_five_percent_of_the_distribution() {
        assert_close(share_at_most(93, 100, 0.95), 0.966_688_084);
        assert_close(share_at_most(836, 900, 0.95), 0.942_475_535);
        assert_close(share_at_least(3, 200, 0.95), 0.004_100_613);
    }

    #[test]
    fn bounds_of_many_cases_stay_near_what_was_seen() {
        let (upper, lower) = (share_at_most(570_000, 600_000, 0.95), share_at_least(570_000, 600_000, 0.95));
        assert!(upper.unwrap() > 0.95 && upper.unwrap() < 0.9505, "{upper:?}");
        assert!(lower.unwrap() < 0.95 && lower.unwrap() > 0.9495, "{lower:?}");
    }
}
