//! The summary on standard output: a table for people, JSON and CSV for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use record::{PointSummary, Summary};

use crate::{
    format::{count, with_unit},
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
            writeln!(out, "{}", table(summary))?;
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
