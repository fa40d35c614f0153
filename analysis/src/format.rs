//! Numbers as people read them.

use crate::statistic::Unit;

/// Three significant digits where there is a fraction, separators between thousands where there is none.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if size < 0.0005 {
        format!("{value:.1e}")
    } else if size < 0.9995 {
        format!("{value:.3}")
    } else if size < 9.995 {
        format!("{value:.2}")
    } else if size < 99.95 {
        format!("{value:.1}")
    } else {
        whole(value)
    }
}

/// A whole number with separators between thousands.
pub(crate) fn count(value: u64) -> String {
    whole(value as f64)
}

/// A number with its unit.
pub(crate) fn with_unit(value: f64, unit: Unit) -> String {
    match unit.symbol() {
        "" => number(value),
        symbol => format!("{} {symbol}", number(value)),
    }
}

/// Nanoseconds in the unit that suits their size.
pub(crate) fn duration_ns(ns: i64) -> String {
    let size = ns.unsigned_abs() as f64;
    let (per, unit) = if size < 1e3 {
        (1.0, "ns")
    } else if size < 1e6 {
        (1e3, "µs")
    } else if size < 1e9 {
        (1e6, "ms")
    } else {
        (1e9, "s")
    };
    format!("{} {unit}", number(ns as f64 / per))
}

/// A value as it was published: no digit more, no digit less.
pub(crate) fn published(value: f64) -> String {
    if value < 1e3 { value.to_string() } else { whole(value) }
}

/// A tick of a log axis.
pub(crate) fn tick(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e4 {
        format!("{}k", value / 1e3)
    } else {
        // Powers of ten below one come as 0.010000000000000002.
        format!("{}", (value * 1e9).round() / 1e9)
    }
}

/// A rate per second: a few keep the first digit of their fraction, if it is not 0.
pub(crate) fn rate(value: f64) -> String {
    let tenths = format!("{value:.1}");
    if value < 10.0 && !tenths.ends_with(".0") { tenths } else { whole(value) }
}

/// The nearest whole number, with separators between thousands.
pub(crate) fn whole(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.012_34, "0.012"),
            (0.9999, "1.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1_234_567.0, "1,234,567"),
            (-12_345.6, "-12,346"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn small_rates_keep_their_fraction() {
        let cases = [(1.5, "1.5"), (1.999, "2"), (2.46, "2.5"), (9.97, "10"), (12.5, "12"), (2_000.2, "2,000")];
        for (value, text) in cases {
            assert_eq!(rate(value), text);
        }
    }

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!(duration_ns(850), "850 ns");
        assert_eq!(duration_ns(1_500), "1.50 µs");
        assert_eq!(duration_ns(-2_000_000), "-2.00 ms");
        assert_eq!(duration_ns(300_000_000_000), "300 s");
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(tick(0.010_000_000_000_000_002), "0.01");
        assert_eq!(tick(20_000.0), "20k");
        assert_eq!(tick(1e6), "1M");
    }
}
