//! Results on standard output: a table for people, JSON and CSV for programs.

pub(crate) mod claims;
pub(crate) mod comparison;

use std::io::{self, Write};

use record::{Estimate, PointSummary, RateCheck, RatePoint, Summary};
use terminal::{Format, Head, Table, json};

use crate::{
    format::{count, number, with_unit},
    statistic::{STATISTICS, Statistic},
};

/// Statistics shown as columns of the terminal's table, with their heads.
const COLUMNS: [(&str, Head); 9] = [
    ("failed", head("failed", "failed")),
    ("slowdown.seed.p50", head("slowdown p50", "slowdown p50")),
    ("slowdown.seed.p90", head("p90", "slowdown p90")),
    ("slowdown.seed.p99", head("p99", "slowdown p99")),
    ("scheduling.p50", head("sched. p50", "sched. p50")),
    ("scheduling.p99", head("p99", "sched. p99")),
    ("cold.share", head("cold", "cold")),
    ("cold.wait.p50", head("wait p50", "wait p50")),
    ("lag.p99", head("lag p99", "lag p99")),
];

/// Columns of both tables that say what a row is about.
const KEYS: usize = 2;

const fn head(short: &'static str, alone: &'static str) -> Head {
    Head { short, alone }
}

/// Prints the summary in the given form; a table is fitted to a `terminal` of so many columns.
///
/// # Errors
/// If the output cannot be written.
pub fn print_summary(summary: &Summary, format: Format, terminal: Option<u16>, mut out: impl Write) -> io::Result<()> {
    match format {
        Format::Table => {
            let table = if summary.rates.is_empty() { table(summary) } else { rates_table(&summary.rates) };
            write!(out, "{}", table.text(terminal))?;
            summary.not_measured.iter().try_for_each(|(system, why)| writeln!(out, "{system}: not measured: {why}"))
        }
        Format::Json => out.write_all(json(summary)?.as_bytes()),
        Format::Csv => statistics_csv(summary, out),
    }
}

/// One line per statistic and repetition; a value that was not measured is empty.
pub(crate) fn statistics_csv(summary: &Summary, out: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["system", "point", "repetition", "statistic", "value", "unit"])?;
    for point in &summary.points {
        for statistic in &STATISTICS {
            let value = statistic.of(point).map(|value| value.to_string()).unwrap_or_default();
            let repetition = point.repetition.to_string();
            let unit = statistic.unit.symbol();
            csv.write_record([&point.system, &point.point, &repetition, statistic.id, &value, unit])?;
        }
    }
    csv.flush()
}

fn table(summary: &Summary) -> Table {
    let about = ["system", "point", "rep", "rows"].map(Head::from);
    let heads: Vec<Head> = about.into_iter().chain(COLUMNS.map(|(_, head)| head)).chain(["valid".into()]).collect();
    let numbers = KEYS..heads.len();
    let mut table = Table::new(heads).align_right(numbers).split(KEYS);
    summary.points.iter().for_each(|point| table.row(row(point)));
    table
}

/// One line per point of a constant rate, over its repetitions.
fn rates_table(points: &[RatePoint]) -> Table {
    let measured = ["system", "point", "reps", "offered/s", "achieved/s", "ok %", "p50 ms", "p99 ms", "p99.9 ms"];
    let heads = measured
        .into_iter()
        .chain(["cold %", "lag p99 ms", "CPU-µs/op"])
        .map(Head::from)
        .chain([head("machine's", "machine's CPU-µs/op"), head("cores", "machine's cores")])
        .chain(["valid", "sustained", "objective"].map(Head::from));
    let heads: Vec<Head> = heads.collect();
    let numbers = KEYS..heads.len();
    let mut table = Table::new(heads).align_right(numbers).split(KEYS);
    let cell = |estimate: Option<Estimate>| estimate.map_or_else(|| "–".to_owned(), |found| number(found.median));
    let word = |check: &RateCheck| match check.holds {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "not judged".to_owned(),
    };
    for point in points {
        table.row([
            point.system.clone(),
            point.point.clone(),
            point.repetitions.to_string(),
            cell(point.offered_per_s),
            cell(point.achieved_per_s),
            cell(point.ok_percent),
            cell(point.latency_p50_ms),
            cell(point.latency_p99_ms),
            cell(point.latency_p999_ms),
            cell(point.cold_percent),
            cell(point.lag_p99_ms),
            cell(point.system_cpu_us),
            cell(point.machine_cpu_us),
            cell(point.machine_cores),
            if point.valid_repetitions == point.repetitions { "yes".to_owned() } else { "NO".to_owned() },
            word(&point.sustained),
            word(&point.at_objective),
        ]);
    }
    table
}

fn row(point: &PointSummary) -> Vec<String> {
    let mut cells =
        vec![point.system.clone(), point.point.clone(), point.repetition.to_string(), count(point.counts.measured)];
    cells.extend(COLUMNS.iter().filter_map(|(id, _)| Statistic::find(id)).map(|statistic| {
        let value = statistic.of(point);
        value.map_or_else(
            || "–".to_owned(),
            |value| {
                if statistic.id == "failed" && value == 0.0 { "0".to_owned() } else { with_unit(value, statistic.unit) }
            },
        )
    }));
    cells.push(match point.validity.valid {
        Some(true) => "yes".to_owned(),
        Some(false) => "NO".to_owned(),
        None => "unknown".to_owned(),
    });
    cells
}

fn plain(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Rows as CSV with a header.
fn with_header<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    terminal::csv(std::iter::once(heads.map(str::to_owned)).chain(rows))
}
