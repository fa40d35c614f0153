//! `durations.csv` and `memory.csv`: percentiles of each function's run time and memory.

use std::{collections::HashMap, path::Path};

use super::Identity;
use crate::{
    Memory, PercentileError, RunTime, TraceError,
    table::{Column, Row, Table},
};

/// What one file gave.
pub(super) struct Read<T> {
    pub(super) table: T,
    pub(super) ignored: Vec<String>,
}

/// Memory as the file gives it.
pub(super) enum MemoryTable {
    /// For each function.
    PerFunction(HashMap<Identity, Memory>),
    /// For each application (the file has no function column), all its functions together.
    PerApp(HashMap<[String; 2], Memory>),
}

impl MemoryTable {
    /// A function's memory: its own, or its even share of the application's. `per_app` says how many share.
    pub(super) fn of(&self, identity: &Identity, per_app: &HashMap<[String; 2], u32>) -> Option<Memory> {
        match self {
            Self::PerFunction(table) => table.get(identity).cloned(),
            Self::PerApp(table) => {
                let app = [identity[0].clone(), identity[1].clone()];
                let sharing = per_app.get(&app).copied().unwrap_or(1);
                Some(table.get(&app)?.scaled(1.0 / f64::from(sharing)))
            }
        }
    }
}

pub(super) fn read_run_times(path: &Path) -> Result<Read<HashMap<Identity, RunTime>>, TraceError> {
    let mut table = Table::open(path)?;
    let parts = [table.column("HashOwner")?, table.column("HashApp")?, table.column("HashFunction")?];
    let average = table.optional("Average");
    let columns = levels(&mut table, "percentile_Average_", &RunTime::LEVELS)?;
    let ignored = table.ignored(&["Count", "Minimum", "Maximum"]);
    let mut run_times = HashMap::new();
    while let Some(row) = table.next_row()? {
        let mut run_time = RunTime::new(values(&row, &columns)?)
            .map_err(|error| percentile_error(&row, &columns, &RunTime::LEVELS, &error))?;
        run_time.average_ms = average.map(|column| optional_average(&row, column)).transpose()?.flatten();
        insert(&mut run_times, &row, parts, run_time)?;
    }
    Ok(Read { table: run_times, ignored })
}

pub(super) fn read_memory(path: &Path) -> Result<Read<MemoryTable>, TraceError> {
    let mut table = Table::open(path)?;
    let app = [table.column("HashOwner")?, table.column("HashApp")?];
    let function = table.optional("HashFunction");
    let columns = levels(&mut table, "AverageAllocatedMb_pct", &Memory::LEVELS)?;
    let ignored = table.ignored(&["SampleCount", "AverageAllocatedMb"]);
    let (mut functions, mut apps) = (HashMap::new(), HashMap::new());
    while let Some(row) = table.next_row()? {
        let memory = Memory::new(values(&row, &columns)?)
            .map_err(|error| percentile_error(&row, &columns, &Memory::LEVELS, &error))?;
        match function {
            Some(function) => insert(&mut functions, &row, [app[0], app[1], function], memory)?,
            None => insert(&mut apps, &row, app, memory)?,
        }
    }
    let table = if function.is_some() { MemoryTable::PerFunction(functions) } else { MemoryTable::PerApp(apps) };
    Ok(Read { table, ignored })
}

/// The columns of the percentiles, each named by the prefix and its level.
fn levels<const N: usize>(table: &mut Table<'_>, prefix: &str, levels: &[f64; N]) -> Result<Vec<Column>, TraceError> {
    levels.iter().map(|level| table.column(&format!("{prefix}{level}"))).collect()
}

fn values<const N: usize>(row: &Row<'_>, columns: &[Column]) -> Result<[f64; N], TraceError> {
    let mut values = [0.0; N];
    for (value, &column) in values.iter_mut().zip(columns) {
        *value = row.real(column)?;
    }
    Ok(values)
}

fn percentile_error(row: &Row<'_>, columns: &[Column], levels: &[f64], error: &PercentileError) -> TraceError {
    let place = levels.iter().position(|level| level.total_cmp(&error.level).is_eq()).unwrap_or(0);
    row.error(columns[place], error.problem.clone())
}

/// The stated average, which may be left empty.
fn optional_average(row: &Row<'_>, column: Column) -> Result<Option<f64>, TraceError> {
    if row.text(column)?.is_empty() {
        return Ok(None);
    }
    let average_ms = row.real(column)?;
    if !(0.0..=RunTime::LIMIT_MS).contains(&average_ms) {
        let problem = format!("expected a number from 0 to {}, found {average_ms}", RunTime::LIMIT_MS);
        return Err(row.error(column, problem));
    }
    Ok(Some(average_ms))
}

/// Adds a row under the names in `parts`, which no row before may have had.
fn insert<const N: usize, T>(
    table: &mut HashMap<[String; N], T>,
    row: &Row<'_>,
    parts: [Column; N],
    value: T,
) -> Result<(), TraceError> {
    let mut key = [const { String::new() }; N];
    for (name, column) in key.iter_mut().zip(parts) {
        *name = row.name(column)?;
    }
    let identity = key.join("/");
    if table.insert(key, value).is_some() {
        return Err(row.error(parts[N - 1], format!("expected each once, found {identity} again")));
    }
    Ok(())
}
