//! Ends of log axes: the 1, 2 or 5 times a power of ten around what is drawn.

/// From the step below the least of `values` to the one above the greatest.
pub(super) fn log_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), x| (least.min(x), most.max(x)));
    let steps = |x: f64| {
        let decade = 10_f64.powf(x.log10().floor());
        [1.0, 2.0, 5.0, 10.0].map(|step| step * decade)
    };
    let below = steps(least).into_iter().rev().find(|step| *step <= least * (1.0 + 1e-9));
    let above = steps(most).into_iter().find(|step| *step >= most * (1.0 - 1e-9));
    let (below, above) = (below.unwrap_or(least), above.unwrap_or(most));
    if below < above { (below, above) } else { (below / 2.0, above * 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_begins_and_ends_with_a_step() {
        let close = |(a, b): (f64, f64), (c, d): (f64, f64)| (a - c).abs() < 1e-9 && (b - d).abs() < 1e-6;
        assert!(close(log_range([300.0, 7_000.0].into_iter()), (200.0, 10_000.0)));
        assert!(close(log_range([0.04, 0.1].into_iter()), (0.02, 0.1)));
        assert!(close(log_range([500.0].into_iter()), (250.0, 1_000.0)), "one value is in the middle");
    }
}
