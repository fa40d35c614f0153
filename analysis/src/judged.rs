//! Judged claims and compared runs on standard output: a table for people, JSON and CSV for programs.

use std::io::{self, Write};

use record::{Claims, JudgedClaim};
use serde::Serialize;

use crate::{
    columns::{Columns, Head},
    compare::{Change, Comparison},
    format::number,
    output::TableFormat,
};

/// Prints claims with their verdicts; a table is fitted to a `terminal` of so many columns.
///
/// # Errors
/// When the output cannot be written.
pub fn print_claims(
    claims: &Claims,
    format: TableFormat,
    terminal: Option<u16>,
    mut out: impl Write,
) -> io::Result<()> {
    let rows = claims.claims.iter().map(|claim| {
        let (lower, upper) = claim.interval.unzip();
        [
            claim.id.clone(),
            claim.verdict.as_str().to_owned(),
            plain(claim.found),
            plain(lower),
            plain(upper),
            claim.unit.clone(),
            plain(claim.p),
            claim.published.clone(),
            claim.reason.clone(),
        ]
    });
    let heads = ["claim", "verdict", "found", "lower", "upper", "unit", "p", "published", "why"];
    match format {
        TableFormat::Json => json(claims, out),
        TableFormat::Csv => csv(heads, rows, out),
        TableFormat::Table => {
            let rows = claims.claims.iter().map(|claim| {
                let of = |text: &str| text.to_owned();
                [of(&claim.id), of(claim.verdict.as_str()), found(claim), of(&claim.published), of(&claim.reason)]
            });
            let mut table = Columns::new(["claim", "verdict", "found", "published", "why"].map(Head::from), 0..0);
            rows.for_each(|row| table.row(row));
            writeln!(out, "{}", table.wrapped(terminal))?;
            let mut noted = claims.claims.iter().filter(|claim| !claim.note.is_empty());
            noted.try_for_each(|claim| writeln!(out, "{}: {}", claim.id, claim.note))
        }
    }
}

fn found(claim: &JudgedClaim) -> String {
    let interval = claim.interval.map(|(lower, upper)| format!(" [{}; {}]", number(lower), number(upper)));
    claim.found.map_or_else(
        || "–".to_owned(),
        |found| format!("{}{} {}", number(found), interval.unwrap_or_default(), claim.unit),
    )
}

/// Prints what changed from one run to another; a table is fitted to a `terminal` of so many columns.
///
/// # Errors
/// When the output cannot be written.
pub fn print_comparison(
    compared: &Comparison,
    format: TableFormat,
    terminal: Option<u16>,
    mut out: impl Write,
) -> io::Result<()> {
    match format {
        TableFormat::Json => json(compared, out),
        TableFormat::Csv => {
            let heads =
                ["system", "point", "statistic", "unit", "before", "after", "ratio", "lower", "upper", "p", "verdict"];
            let rows = compared.changes.iter().map(|change| {
                let Change { system, point, statistic, unit, .. } = change;
                let (lower, upper) = change.interval.unzip();
                let numbers =
                    [Some(change.before), Some(change.after), change.ratio, lower, upper, change.p].map(plain);
                let [before, after, ratio, lower, upper, p] = numbers;
                let [statistic, unit] = [statistic, unit].map(|text| (*text).to_owned());
                let verdict = words(change).replace(' ', "-");
                [system.clone(), point.clone(), statistic, unit, before, after, ratio, lower, upper, p, verdict]
            });
            csv(heads, rows, out)
        }
        TableFormat::Table => {
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
            let heads = ["system", "point", "statistic", "before", "after", "ratio", "p", "verdict"];
            let mut table = Columns::new(heads.map(Head::from), 3..7);
            rows.for_each(|row| table.row(row));
            writeln!(out, "{}", table.split(3, terminal))
        }
    }
}

fn words(change: &Change) -> &'static str {
    use crate::compare::ChangeKind;
    match change.verdict {
        ChangeKind::Better => "better",
        ChangeKind::Worse => "worse",
        ChangeKind::Different => "different",
        ChangeKind::NoDifference => "no difference",
        ChangeKind::TooFew => "too few",
    }
}

fn plain(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn json(value: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

fn csv<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>, out: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(heads)?;
    for row in rows {
        csv.write_record(&row)?;
    }
    csv.flush()
}
