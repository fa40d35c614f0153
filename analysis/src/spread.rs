//! Exact quantiles of whole numbers, as the summary holds them.

use record::Spread;
use stats::quantile;

/// The spread of `values`; `None` when there are none.
pub(crate) fn spread(mut values: Vec<i64>) -> Option<Spread> {
    values.sort_unstable();
    Some(Spread {
        count: values.len() as u64,
        min: *values.first()?,
        p50: quantile(&values, 0.5)?,
        p90: quantile(&values, 0.9)?,
        p99: quantile(&values, 0.99)?,
        p999: quantile(&values, 0.999)?,
        max: *values.last()?,
    })
}

/// The same number, signed; beyond 292 years of nanoseconds it stays at the greatest.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
