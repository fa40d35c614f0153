//! The run's data as plain CSV, for other tools.

use std::io::{self, Write};

use clap::ValueEnum;
use record::RatePoint;
use serde::Serialize;
use stats::{Definition, FailurePolicy};
use thiserror::Error;

use crate::{
    ReadError, Run,
    output::statistics_csv,
    report,
    rows::{self, Rows},
    summarise::{group, recorded_definition, recorded_policy},
};

/// Tables that can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportTable {
    /// Every raw row, with system, point and repetition before it.
    Invocations,
    /// The slowdown of each function, by definition and failure policy.
    Functions,
    /// Every statistic of every repetition.
    Statistics,
    /// Of a constant rate: every number of every point over its repetitions.
    Rates,
}

/// Data could not be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The run could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The run has no such table.
    #[error(
        "no load of the run has a constant rate, so that it has no table of rates: --table statistics has its numbers"
    )]
    NoRates,
    /// The output could not be written.
    #[error("cannot write the export")]
    Write(#[from] io::Error),
}

/// Writes one table as CSV.
///
/// # Errors
/// If the run cannot be read, has no such table, or the output cannot be written.
pub fn export(run: &Run, table: ExportTable, out: impl Write) -> Result<(), ExportError> {
    match table {
        ExportTable::Invocations => invocations(run, out),
        ExportTable::Functions => functions(run, out),
        ExportTable::Statistics => {
            let summary = report::summary(run, &report::checked(run)?);
            Ok(statistics_csv(&summary, out)?)
        }
        ExportTable::Rates => match report::summary(run, &report::checked(run)?).rates {
            none if none.is_empty() => Err(ExportError::NoRates),
            found => Ok(rates(&found, out)?),
        },
    }
}

/// Key columns of a row.
#[derive(Serialize)]
struct Place<'a> {
    system: &'a str,
    point: &'a str,
    repetition: u32,
}

const COLUMNS: [&str; 23] = [
    "system",
    "point",
    "repetition",
    "function",
    "index",
    "phase",
    "scheduled_ns",
    "sent_ns",
    "first_byte_ns",
    "done_ns",
    "requested_us",
    "memory_mib",
    "executed_us",
    "queue_us",
    "cold_us",
    "exec_us",
    "status",
    "outcome",
    "cold",
    "sandbox",
    "attempts",
    "error",
    "address",
];

fn invocations(run: &Run, out: impl Write) -> Result<(), ExportError> {
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(out);
    csv.write_record(COLUMNS).map_err(io::Error::from)?;
    for point in &run.points {
        let place = Place { system: &point.system, point: &point.point, repetition: point.repetition };
        for row in rows::open(&point.invocations())? {
            csv.serialize((&place, row.map_err(ReadError::from)?)).map_err(io::Error::from)?;
        }
    }
    Ok(csv.flush()?)
}

/// One line per number of a point; an interval is empty below five repetitions.
fn rates(points: &[RatePoint], out: impl Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["system", "point", "statistic", "repetitions", "median", "min", "max", "lower", "upper"])?;
    for point in points {
        let numbers = [
            ("offered_per_s", point.offered_per_s),
            ("achieved_per_s", point.achieved_per_s),
            ("ok_percent", point.ok_percent),
            ("latency_p50_ms", point.latency_p50_ms),
            ("latency_p99_ms", point.latency_p99_ms),
            ("latency_p999_ms", point.latency_p999_ms),
            ("cold_percent", point.cold_percent),
            ("lag_p99_ms", point.lag_p99_ms),
            ("slope_upper_percent_per_min", point.slope_upper_percent_per_min),
            ("block_autocorrelation", point.block_autocorrelation),
            ("system_cpu_us", point.system_cpu_us),
            ("machine_cpu_us", point.machine_cpu_us),
            ("machine_cores", point.machine_cores),
        ];
        let processes = point.processes.iter().map(|one| (format!("cpu_us {}", one.process), Some(one.cpu_us)));
        for (statistic, estimate) in
            numbers.map(|(name, number)| (name.to_owned(), number)).into_iter().chain(processes)
        {
            let Some(found) = estimate else { continue };
            let (lower, upper) = found.interval.unzip();
            csv.serialize((
                (&point.system, &point.point, statistic, found.count),
                (found.median, found.min, found.max, lower, upper),
            ))?;
        }
    }
    csv.flush()
}

fn functions(run: &Run, out: impl Write) -> Result<(), ExportError> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["system", "point", "repetition", "function", "definition", "failures", "slowdown"])
        .map_err(io::Error::from)?;
    for point in &run.points {
        let rows = Rows::read(&point.invocations())?;
        let grouped = group(&rows, run.plan().timeout(&point.point, run.timeout).ns);
        for definition in Definition::ALL {
            for policy in FailurePolicy::ALL {
                for (function, slowdown) in grouped.per_function(definition, policy) {
                    let name = rows.functions.get(function as usize).map_or("", String::as_str);
                    let repetition = point.repetition.to_string();
                    let (definition, policy) = (recorded_definition(definition).name(), recorded_policy(policy).name());
                    let value = slowdown.to_string();
                    csv.write_record([&point.system, &point.point, &repetition, name, definition, policy, &value])
                        .map_err(io::Error::from)?;
                }
            }
        }
    }
    Ok(csv.flush()?)
}
