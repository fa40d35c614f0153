//! The result of a measurement: named numbers with their units.

use serde_json::{Map, Value};
use terminal::{Format, Table, columns, json};

/// Named numbers in the order of their addition, and the bounds that they violate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    numbers: Vec<(String, f64)>,
    violations: Vec<String>,
}

impl Report {
    /// Adds a number. Its name must end in its unit.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64) {
        self.numbers.push((name.into(), value));
    }

    /// Adds a violated bound, which makes the driver fail.
    pub(crate) fn add_violation(&mut self, violation: String) {
        self.violations.push(violation);
    }

    /// The violated bounds.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Adds the median and the 99th percentile of `values`, 0 without any. Sorts `values`.
    pub(crate) fn add_spread(&mut self, names: [&'static str; 2], values: &mut [u64]) {
        values.sort_unstable();
        for (name, q) in names.into_iter().zip([0.5, 0.99]) {
            self.add(name, stats::quantile(values, q).unwrap_or(0) as f64);
        }
    }

    /// The text to print, with a final newline.
    pub(crate) fn render(&self, format: Format) -> String {
        let mut table = Table::new(["figure", "value"]).align_right([1]);
        for (name, value) in &self.numbers {
            let digits = if value.fract() == 0.0 { 0 } else { 2 };
            table.row([name.replace('_', " "), format!("{value:.digits$}")]);
        }
        match format {
            Format::Table => table.without_heads().text(columns()),
            Format::Json => {
                let members = self.numbers.iter().map(|(name, value)| (name.clone(), Value::from(*value)));
                json(&Value::Object(members.collect::<Map<_, _>>())).expect("names of numbers are text")
            }
            Format::Csv => {
                let header = ["figure".to_owned(), "value".to_owned()];
                let rows = self.numbers.iter().map(|(name, value)| [name.clone(), value.to_string()]);
                terminal::csv(std::iter::once(header).chain(rows))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_in_the_order_of_their_addition() {
        let mut report = Report::default();
        report.add("rate_per_s", 12.5);
        report.add_spread(["wait_p50_us", "wait_p99_us"], &mut [3, 1, 2]);
        let csv = "figure,value\nrate_per_s,12.5\nwait_p50_us,2\nwait_p99_us,3\n";
        assert_eq!(report.render(Format::Csv), csv);
        let json = report.render(Format::Json);
        assert_eq!(json, "{\n  \"rate_per_s\": 12.5,\n  \"wait_p50_us\": 2.0,\n  \"wait_p99_us\": 3.0\n}\n");
        assert!(report.render(Format::Table).starts_with(" rate per s "));
    }

    #[test]
    fn a_table_aligns_numbers_and_shows_decimals_of_fractions_only() {
        let mut report = Report::default();
        report.add("count", 1200.0);
        report.add("cpu_us_per_creation", 12.345);
        let table = report.render(Format::Table);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].ends_with(" 1200") && lines[1].ends_with(" 12.35"), "{table}");
        assert!(lines[1].starts_with(" cpu us per creation "), "{table}");
        assert_eq!(lines[0].len(), lines[1].len(), "{table}");
    }

    #[test]
    fn a_spread_without_values_is_0_and_violations_are_kept_apart_from_numbers() {
        let mut report = Report::default();
        report.add_spread(["wait_p50_us", "wait_p99_us"], &mut []);
        report.add_violation("threads grew".to_owned());
        let csv = "figure,value\nwait_p50_us,0\nwait_p99_us,0\n";
        assert_eq!(report.render(Format::Csv), csv);
        assert_eq!(report.violations(), ["threads grew"]);
    }
}
