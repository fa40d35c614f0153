//! `histogram.hgrm`: the percentile distribution of latency in the text form that HdrHistogram's tools read.
//!
//! For exchange and for the live view; the percentiles of a report are exact, from the rows.

use std::{fmt::Write as _, fs, io, path::Path};

use hdrhistogram::Histogram;

/// A latency histogram: 1 µs to an hour, three digits.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("3 digits within these bounds are possible")
}

/// Lines per halving of the distance to 100 %.
const LINES_PER_HALF: u32 = 5;

/// Writes a histogram of microseconds, its values in milliseconds.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(path: &Path, histogram: &Histogram<u64>) -> io::Result<()> {
    fs::write(path, text(histogram))
}

fn text(histogram: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut line = |value_us: u64, quantile: f64, count: u64| {
        let value = ms(value_us);
        // Writing into a string cannot fail.
        let _ = if quantile < 1.0 {
            writeln!(text, "{value:>12} {quantile:>14.12} {count:>10} {:>14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, "{value:>12} {quantile:>14.12} {count:>10}")
        };
    };
    let mut total = 0;
    for step in histogram.iter_quantiles(LINES_PER_HALF) {
        total += step.count_since_last_iteration();
        line(step.value_iterated_to(), step.quantile_iterated_to(), total);
    }
    let (mean, deviation) = (histogram.mean() / 1000.0, histogram.stdev() / 1000.0);
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {:>12}, Total count    = {:>12}]", ms(histogram.max()), histogram.len());
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), 2048);
    text
}

fn ms(us: u64) -> String {
    format!("{}.{:03}", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_has_every_value_and_ends_at_all() {
        let mut histogram = latency_histogram();
        for us in [1000, 2000, 2000, 500_000] {
            histogram.record(us).unwrap();
        }
        let text = text(&histogram);
        assert!(text.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{text}");
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        let cells: Vec<&str> = last.split_whitespace().collect();
        assert_eq!((cells[1], cells[2], cells.len()), ("1.000000000000", "4", 3), "{text}");
        assert!(text.contains("Total count    =            4"), "{text}");
    }

    #[test]
    fn an_empty_histogram_is_written_too() {
        assert!(text(&latency_histogram()).contains("Total count    =            0"));
    }
}
