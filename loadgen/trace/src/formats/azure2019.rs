//! The Azure 2019 form of a trace, as published and as samplers cut it: `invocations.csv`, `durations.csv` and
//! `memory.csv` in one directory, columns found by name in any order, joined on owner, application and function.

mod counts;
mod distributions;
mod files;
mod write;

use std::{collections::HashMap, path::Path};

pub use super::options::{Duplicates, Missing, ReadOptions};
pub use write::write;

use super::{Trace, TraceFormat, TraceKind};
use crate::{FunctionProfile, LoadReport, Memory, RunTime, TraceError, Workload, names, table::cell_error};
use counts::{CountRow, Counts};
use distributions::MemoryTable;

/// The file of counts per minute.
const INVOCATIONS: &str = "invocations.csv";
/// The file of run-time percentiles.
const DURATIONS: &str = "durations.csv";
/// The file of memory percentiles.
const MEMORY: &str = "memory.csv";

/// The files of a trace, as samplers name them and as it is written.
pub const FILES: [&str; 3] = [INVOCATIONS, DURATIONS, MEMORY];

/// Owner, application and function as in the trace: what a function is.
type Identity = [String; 3];

/// The format, as `--trace-format` names it.
#[derive(Debug)]
pub struct Azure2019;

impl TraceFormat for Azure2019 {
    fn name(&self) -> &'static str {
        "azure-2019"
    }

    fn kind(&self) -> TraceKind {
        TraceKind::Counts
    }

    fn detect(&self, path: &Path) -> Result<(), String> {
        files::detect(path)
    }

    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Trace, TraceError> {
        read(path, options).map(Trace::Counts)
    }
}

/// Options that help with a function that a file lacks.
const MISSING_HINT: &str = "--missing drop leaves such functions out, --missing default gives them a default";
/// Options that help with a function that a file has twice.
const DUPLICATES_HINT: &str = "--duplicates first takes the first row, --duplicates merge merges them";

/// Reads the three files of `directory`; without one of memory only under [`Missing::Default`].
///
/// # Errors
/// A file that cannot be read; a cell, row or header that is not of the form, with file, row and column; and, under
/// [`Missing::Refuse`], a function that one file lacks.
pub fn read(directory: &Path, options: &ReadOptions) -> Result<Workload, TraceError> {
    let files = files::find(directory, options.day)?;
    let counts_path = files.counts;
    let counts = counts::read(&counts_path, options)?;
    let run_times = distributions::read_run_times(&files.run_times, options)?;
    let memories = match &files.memory {
        Some(path) => distributions::read_memory(path, options)?,
        None if options.missing == Missing::Default => distributions::no_memory(),
        None => {
            let mib = options.default_memory.max_mib();
            let problem = format!("it has no file of memory; --missing default gives each function {mib} MiB");
            return Err(TraceError::Folder { path: directory.to_owned(), problem });
        }
    };
    let mut report = LoadReport {
        ignored_columns: [&counts.ignored[..], &run_times.ignored, &memories.ignored].concat(),
        memory_per_app: matches!(memories.table, MemoryTable::PerApp(_)),
        dropped: counts.dropped,
        empty_counts: counts.empty,
        duplicates: [
            ("invocations.csv", counts.duplicates),
            ("durations.csv", run_times.duplicates),
            ("memory.csv", memories.duplicates),
        ]
        .into_iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|(file, rows)| (file.to_owned(), rows))
        .collect(),
        merged: options.duplicates == Duplicates::Merge,
        ..LoadReport::default()
    };
    count_unused(&counts, &run_times.table, &memories.table, &mut report);
    let per_app = functions_per_app(&counts);
    let mut join = Join { path: &counts_path, options, report };
    let mut kept = Vec::with_capacity(counts.rows.len());
    for row in counts.rows {
        let run_time = run_times.table.get(&row.identity).cloned();
        let memory = memories.table.of(&row.identity, &per_app);
        if let Some(both) = join.resolve(&row, run_time, memory)? {
            kept.push((row, both));
        }
    }
    let report = join.report;
    let identities: Vec<[&str; 3]> = kept.iter().map(|(row, _)| row.identity.each_ref().map(String::as_str)).collect();
    let names = names::labels(&identities);
    let functions = names.into_iter().zip(kept).map(|(name, (row, both))| profile(name, row, both)).collect();
    Ok(Workload { functions, minutes: counts.minutes, first_minute: counts.first_minute, report })
}

fn profile(name: String, row: CountRow, (run_time, memory): (RunTime, Memory)) -> FunctionProfile {
    let [owner, app, function] = row.identity;
    FunctionProfile { name, owner, app, function, trigger: row.trigger, counts: row.counts, run_time, memory }
}

/// Decides on functions that one file lacks, and reports them.
struct Join<'a> {
    path: &'a Path,
    options: &'a ReadOptions,
    report: LoadReport,
}

impl Join<'_> {
    /// Decides on a function: its run time and memory, or `None` if it is dropped.
    fn resolve(
        &mut self,
        row: &CountRow,
        run_time: Option<RunTime>,
        memory: Option<Memory>,
    ) -> Result<Option<(RunTime, Memory)>, TraceError> {
        let (run_time, memory) = match (run_time, memory) {
            (Some(run_time), Some(memory)) => return Ok(Some((run_time, memory))),
            found => found,
        };
        let identity = row.identity.join("/");
        if self.options.missing == Missing::Refuse {
            let file = if run_time.is_none() { DURATIONS } else { MEMORY };
            let problem = format!("expected a function that {file} has too, found {identity}: {MISSING_HINT}");
            return Err(cell_error(self.path, row.number, "HashFunction".to_owned(), problem));
        }
        if run_time.is_none() {
            self.report.without_run_time.push(identity.clone());
        }
        if memory.is_none() {
            self.report.without_memory.push(identity);
        }
        if self.options.missing == Missing::Drop {
            self.report.dropped += 1;
            return Ok(None);
        }
        self.report.defaulted += 1;
        if run_time.is_none() {
            self.report.default_run_time = format!("{} ms", self.options.default_run_time.at(0.5));
        }
        if memory.is_none() {
            self.report.default_memory = format!("{} MiB", self.options.default_memory.max_mib());
        }
        let run_time = run_time.unwrap_or_else(|| self.options.default_run_time.clone());
        Ok(Some((run_time, memory.unwrap_or_else(|| self.options.default_memory.clone()))))
    }
}

fn count_unused(
    counts: &Counts,
    run_times: &HashMap<Identity, RunTime>,
    memories: &MemoryTable,
    report: &mut LoadReport,
) {
    let used = counts.rows.iter().filter(|row| run_times.contains_key(&row.identity)).count();
    report.unused_run_times = run_times.len() - used;
    report.unused_memory = match memories {
        MemoryTable::PerFunction(table) => {
            table.len() - counts.rows.iter().filter(|row| table.contains_key(&row.identity)).count()
        }
        MemoryTable::PerApp(table) => {
            let apps = functions_per_app(counts);
            table.keys().filter(|app| !apps.contains_key(*app)).count()
        }
    };
}

/// Number of functions with counts of each (owner, application).
fn functions_per_app(counts: &Counts) -> HashMap<[String; 2], u32> {
    let mut per_app = HashMap::new();
    for row in &counts.rows {
        let [owner, app, _] = &row.identity;
        *per_app.entry([owner.clone(), app.clone()]).or_insert(0) += 1;
    }
    per_app
}
