//! `durations.csv` and `memory.csv`: percentiles of each function's run time and memory.

use std::{collections::HashMap, path::Path};

use super::{DUPLICATES_HINT, Duplicates, Identity, MISSING_HINT, Missing, ReadOptions};
use crate::{
    Memory, PercentileError, RunTime, TraceError,
    table::{Column, Row, Table},
};

/// The content of one file.
pub(super) struct Read<T> {
    pub(super) table: T,
    pub(super) ignored: Vec<String>,
    /// Rows of a function or application that had one before.
    pub(super) duplicates: usize,
}

/// An empty table for a missing file of memory.
pub(super) fn no_memory() -> Read<MemoryTable> {
    Read { table: MemoryTable::PerFunction(HashMap::new()), ignored: Vec::new(), duplicates: 0 }
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

pub(super) fn read_run_times(
    path: &Path,
    options: &ReadOptions,
) -> Result<Read<HashMap<Identity, RunTime>>, TraceError> {
    let mut table = Table::open(path)?;
    let parts = [table.column("HashOwner")?, table.column("HashApp")?, table.column("HashFunction")?];
    let (average, weight) = (table.optional("Average"), table.optional("Count"));
    let columns = percentiles(&mut table, "percentile_Average_", &RunTime::PERCENTILES)?;
    let ignored = table.ignored(&["Minimum", "Maximum"]);
    let mut found = Rows::new(parts, options);
    while let Some(row) = table.next_row()? {
        let run_time = || {
            let mut run_time = RunTime::new(values(&row, &columns)?)
                .map_err(|error| percentile_error(&row, &columns, &RunTime::PERCENTILES, &error))?;
            run_time.average_ms = average.map(|column| optional_average(&row, column)).transpose()?.flatten();
            Ok(run_time)
        };
        if let Some(run_time) = usable(run_time(), options.missing)? {
            found.insert(&row, run_time, weight, RunTime::merged)?;
        }
    }
    Ok(Read { duplicates: found.duplicates, table: found.finish(), ignored })
}

pub(super) fn read_memory(path: &Path, options: &ReadOptions) -> Result<Read<MemoryTable>, TraceError> {
    let mut table = Table::open(path)?;
    let app = [table.column("HashOwner")?, table.column("HashApp")?];
    let (function, weight) = (table.optional("HashFunction"), table.optional("SampleCount"));
    let columns = percentiles(&mut table, "AverageAllocatedMb_pct", &Memory::PERCENTILES)?;
    let ignored = table.ignored(&["AverageAllocatedMb"]);
    // Without a column of functions the application is used for it, and nothing is found under it.
    let mut functions = Rows::new([app[0], app[1], function.unwrap_or(app[1])], options);
    let mut apps = Rows::new(app, options);
    while let Some(row) = table.next_row()? {
        let memory = || {
            Memory::new(values(&row, &columns)?)
                .map_err(|error| percentile_error(&row, &columns, &Memory::PERCENTILES, &error))
        };
        let Some(memory) = usable(memory(), options.missing)? else { continue };
        match function {
            Some(_) => functions.insert(&row, memory, weight, Memory::merged)?,
            None => apps.insert(&row, memory, weight, Memory::merged)?,
        }
    }
    let duplicates = functions.duplicates + apps.duplicates;
    let table = match function {
        Some(_) => MemoryTable::PerFunction(functions.finish()),
        None => MemoryTable::PerApp(apps.finish()),
    };
    Ok(Read { table, ignored, duplicates })
}

/// A row's distribution; nothing for one that is none where such functions are dropped or given defaults.
fn usable<T>(read: Result<T, TraceError>, missing: Missing) -> Result<Option<T>, TraceError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(TraceError::Cell { .. }) if missing != Missing::Refuse => Ok(None),
        Err(TraceError::Cell { path, row, column, problem }) => {
            Err(TraceError::Cell { path, row, column, problem: format!("{problem}: {MISSING_HINT}") })
        }
        Err(other) => Err(other),
    }
}

/// The rows of one file by their names, each with its weight: the number of samples behind it.
struct Rows<'a, const N: usize, T> {
    parts: [Column; N],
    options: &'a ReadOptions,
    rows: HashMap<[String; N], (T, f64)>,
    duplicates: usize,
}

impl<'a, const N: usize, T> Rows<'a, N, T> {
    fn new(parts: [Column; N], options: &'a ReadOptions) -> Self {
        Self { parts, options, rows: HashMap::new(), duplicates: 0 }
    }

    /// Adds a row; one whose names a row before had is refused, left, or merged.
    fn insert(
        &mut self,
        row: &Row<'_>,
        value: T,
        weight: Option<Column>,
        merge: fn(&T, &T, f64) -> T,
    ) -> Result<(), TraceError> {
        let mut key = [const { String::new() }; N];
        for (name, column) in key.iter_mut().zip(self.parts) {
            *name = row.name(column)?;
        }
        // A row without a number of samples weighs as one.
        let weight = weight.and_then(|column| row.real(column).ok()).unwrap_or(1.0).max(1.0);
        let Some((before, weighs)) = self.rows.get_mut(&key) else {
            self.rows.insert(key, (value, weight));
            return Ok(());
        };
        self.duplicates += 1;
        match self.options.duplicates {
            Duplicates::First => Ok(()),
            Duplicates::Merge => {
                *before = merge(before, &value, weight / (*weighs + weight));
                *weighs += weight;
                Ok(())
            }
            Duplicates::Refuse => {
                let what = if N == 2 { "each application" } else { "each function" };
                let problem = format!("expected {what} once, found {} again: {DUPLICATES_HINT}", key.join("/"));
                Err(row.error(self.parts[N - 1], problem))
            }
        }
    }

    fn finish(self) -> HashMap<[String; N], T> {
        self.rows.into_iter().map(|(key, (value, _))| (key, value)).collect()
    }
}

/// The columns of the percentiles, each named by the prefix and its percentile.
fn percentiles<const N: usize>(
    table: &mut Table<'_>,
    prefix: &str,
    percentiles: &[f64; N],
) -> Result<Vec<Column>, TraceError> {
    percentiles.iter().map(|percentile| table.column(&format!("{prefix}{percentile}"))).collect()
}

fn values<const N: usize>(row: &Row<'_>, columns: &[Column]) -> Result<[f64; N], TraceError> {
    let mut values = [0.0; N];
    for (value, &column) in values.iter_mut().zip(columns) {
        *value = row.real(column)?;
    }
    Ok(values)
}

fn percentile_error(row: &Row<'_>, columns: &[Column], percentiles: &[f64], error: &PercentileError) -> TraceError {
    let position =
        percentiles.iter().position(|percentile| percentile.total_cmp(&error.percentile).is_eq()).unwrap_or(0);
    row.error(columns[position], error.problem.clone())
}

/// The stated average, which may be left empty.
fn optional_average(row: &Row<'_>, column: Column) -> Result<Option<f64>, TraceError> {
    if row.is_missing(column)? {
        return Ok(None);
    }
    let average_ms = row.real(column)?;
    if !(0.0..=RunTime::LIMIT_MS).contains(&average_ms) {
        let problem = format!("expected a number from 0 to {}, found {average_ms}", RunTime::LIMIT_MS);
        return Err(row.error(column, problem));
    }
    Ok(Some(average_ms))
}
