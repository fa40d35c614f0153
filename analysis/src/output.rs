//! The summary on standard output: a table for people, JSON and CSV for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use record::{Estimate, Judgement, PointSummary, RatePoint, Summary};

use crate::{
    format::{count, number, with_unit},
    statistic::{STATISTICS, Statistic},
};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// Columns for a terminal.
    Table,
    /// The whole summary.
    Json,
    /// One line per statistic and repetition.
    Csv,
}

/// Statistics shown as columns of the terminal's table, with their heads.
const COLUMNS: [(&str, &str); 9] = [
    ("failed", "failed"),
    ("slowdown.seed.p50", "slowdown p50"),
    ("slowdown.seed.p90", "p90"),
    ("slowdown.seed.p99", "p99"),
    ("scheduling.p50", "sched. p50"),
    ("scheduling.p99", "p99"),
    ("cold.share", "cold"),
    ("cold.wait.p50", "wait p50"),
    ("lag.p99", "lag p99"),
];

/// Prints the summary in the given form.
///
/// # Errors
/// When the output cannot be written.
pub fn print_summary(summary: &Summary, format: TableFormat, mut out: impl Write) -> io::Result<()> {
    match format {
        TableFormat::Table => {
            writeln!(out, "{}", if summary.rates.is_empty() { table(summary) } else { rates_table(&summary.rates) })?;
            summary.not_measured.iter().try_for_each(|(system, why)| writeln!(out, "{system}: not measured: {why}"))
        }
        TableFormat::Json => {
            serde_json::to_writer_pretty(&mut out, summary)?;
            writeln!(out)
        }
        TableFormat::Csv => statistics_csv(summary, out),
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
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let heads = ["system", "point", "rep", "rows"].into_iter().chain(COLUMNS.map(|(_, head)| head)).chain(["valid"]);
    table.set_header(heads);
    for point in &summary.points {
        table.add_row(row(point));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One line per point of a constant rate, over its repetitions.
fn rates_table(points: &[RatePoint]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "system",
        "point",
        "reps",
        "offered/s",
        "achieved/s",
        "ok %",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "cold %",
        "lag p99 ms",
        "CPU-µs/op",
        "machine's",
        "cores",
        "valid",
        "sustained",
        "objective",
    ]);
    let cell = |estimate: Option<Estimate>| estimate.map_or_else(|| "–".to_owned(), |found| number(found.median));
    let word = |judged: &Judgement| match judged.verdict {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "not judged".to_owned(),
    };
    for point in points {
        table.add_row([
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
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
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
