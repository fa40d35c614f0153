//! The comparison of two runs on standard output.

use std::io::{self, Write};

use terminal::{Format, Table, json};

use super::{plain, with_header};
use crate::{
    compare::{Change, ChangeKind, Comparison},
    format::number,
};

/// Prints what changed from one run to another; a table is fitted to a `terminal` of so many columns.
///
/// # Errors
/// If the output cannot be written.
pub fn print_comparison(
    compared: &Comparison,
    format: Format,
    terminal: Option<u16>,
    mut out: impl Write,
) -> io::Result<()> {
    match format {
        Format::Json => out.write_all(json(compared)?.as_bytes()),
        Format::Csv => {
            let heads =
                ["system", "point", "statistic", "unit", "before", "after", "ratio", "lower", "upper", "p", "change"];
            let rows = compared.changes.iter().map(|change| {
                let Change { system, point, statistic, unit, .. } = change;
                let (lower, upper) = change.interval.unzip();
                let numbers =
                    [Some(change.before), Some(change.after), change.ratio, lower, upper, change.p].map(plain);
                let [before, after, ratio, lower, upper, p] = numbers;
                let [statistic, unit] = [statistic, unit].map(|text| (*text).to_owned());
                let kind = words(change).replace(' ', "-");
                [system.clone(), point.clone(), statistic, unit, before, after, ratio, lower, upper, p, kind]
            });
            out.write_all(with_header(heads, rows).as_bytes())
        }
        Format::Table => {
            let rows = compared.changes.iter().map(|change| {
                let with_unit = |value: f64| format!("{} {}", number(value), change.unit).trim_end().to_owned();
                let ratio = change.ratio.map_or_else(|| "–".to_owned(), number);
                let interval = change.interval.map(|(lower, upper)| format!(" [{}; {}]", number(lower), number(upper)));
                let ratio = format!("{ratio}{}", interval.unwrap_or_default());
                let p = change.p.map_or_else(|| "–".to_owned(), number);
                let [system, point] = [&change.system, &change.point].map(Clone::clone);
                let (before, after) = (with_unit(change.before), with_unit(change.after));
                [system, point, change.statistic.to_owned(), before, after, ratio, p, words(change).to_owned()]
            });
            let heads = ["system", "point", "statistic", "before", "after", "ratio", "p", "change"];
            let mut table = Table::new(heads).align_right(3..7).split(3);
            rows.for_each(|row| table.row(row));
            write!(out, "{}", table.text(terminal))
        }
    }
}

fn words(change: &Change) -> &'static str {
    match change.kind {
        ChangeKind::Better => "better",
        ChangeKind::Worse => "worse",
        ChangeKind::Different => "different",
        ChangeKind::NoDifference => "no difference",
        ChangeKind::TooFew => "too few",
    }
}
