//! What was measured: named numbers with their units, as a table or as JSON.

use std::fmt::Write;

use clap::ValueEnum;
use serde_json::{Map, Value};

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Named numbers, in the order in which they were added, and what is wrong about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    numbers: Vec<(String, f64)>,
    objections: Vec<String>,
}

impl Report {
    /// Adds a number; its name ends in its unit.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64) {
        self.numbers.push((name.into(), value));
    }

    /// Notes that a number is out of its bounds.
    pub(crate) fn object(&mut self, objection: String) {
        self.objections.push(objection);
    }

    /// What is out of bounds.
    pub(crate) fn objections(&self) -> &[String] {
        &self.objections
    }

    /// Adds median and 99th percentile of values, which are sorted for it.
    pub(crate) fn add_spread(&mut self, names: [&'static str; 2], values: &mut [u64]) {
        values.sort_unstable();
        for (name, q) in names.into_iter().zip([0.5, 0.99]) {
            self.add(name, stats::quantile(values, q).unwrap_or(0) as f64);
        }
    }

    /// As text.
    pub(crate) fn render(&self, format: Format) -> String {
        if format == Format::Json {
            let members = self.numbers.iter().map(|(name, value)| (name.clone(), Value::from(*value)));
            return Value::Object(members.collect::<Map<_, _>>()).to_string() + "\n";
        }
        let mut text = String::new();
        let width = self.numbers.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(34);
        for (name, value) in &self.numbers {
            let digits = if value.fract() == 0.0 { 0 } else { 2 };
            let _ = writeln!(text, "{:<width$} {value:>14.digits$}", name.replace('_', " "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_their_order_with_their_names() {
        let mut report = Report::default();
        report.add("rate_per_s", 12.5);
        report.add_spread(["wait_p50_us", "wait_p99_us"], &mut [3, 1, 2]);
        assert_eq!(report.render(Format::Json), "{\"rate_per_s\":12.5,\"wait_p50_us\":2.0,\"wait_p99_us\":3.0}\n");
        assert!(report.render(Format::Table).starts_with("rate per s "));
    }
}
