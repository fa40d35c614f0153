//! Arithmetic and geometric mean.

/// The arithmetic mean; `None` when there are no values.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The geometric mean, computed through logarithms so that long products do not overflow; `None` when there are no
/// values or one is not positive, for which it is not defined.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| *value <= 0.0) {
        return None;
    }
    Some((values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.gmean([1.5, 2.25, 10, 400.125])`
    #[test]
    fn the_geometric_mean_is_that_of_scipy() {
        let found = geometric_mean(&[1.5, 2.25, 10.0, 400.125]).unwrap();
        assert!((found - 10.779_965_379_237_105).abs() < 1e-12, "{found}");
    }

    #[test]
    fn a_value_of_zero_has_no_geometric_mean() {
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
        assert_eq!(geometric_mean(&[]), None);
    }

    #[test]
    fn the_mean_of_nothing_is_nothing() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
    }
}
