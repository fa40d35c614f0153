//! The Azure 2021 form of a trace: one row per call with its end and its duration, so that it is replayed exactly.

use std::{collections::HashMap, path::Path};

use super::{ReadOptions, Trace, TraceFormat, TraceKind, with_cause};
use crate::{
    RunTime, TraceError, names,
    quantity::whole,
    schedule::MAX_SCHEDULED,
    table::{Column, Row, Table, row_error},
    workload::check_window,
};

/// The format, as `--trace-format` names it.
#[derive(Debug)]
pub struct Azure2021;

impl TraceFormat for Azure2021 {
    fn name(&self) -> &'static str {
        "azure-2021"
    }

    fn kind(&self) -> TraceKind {
        TraceKind::Calls
    }

    fn detect(&self, path: &Path) -> Result<(), String> {
        // Opening anything else, such as a pipe, might take what a reader needs, or never end.
        if !path.is_file() {
            return Err("expected a file, found a directory or device".to_owned());
        }
        let found = Table::open(path).and_then(|mut table| columns(&mut table, path));
        found.map(drop).map_err(|error| with_cause(&error))
    }

    fn read(&self, path: &Path, _: &ReadOptions) -> Result<Trace, TraceError> {
        read(path).map(Trace::Calls)
    }
}

/// Latest end accepted, in seconds from the trace's zero: a year. The published trace covers two weeks.
const MAX_END_S: f64 = 366.0 * 86_400.0;
/// Memory of every call, in MiB, since the format does not say: half of the applications in "Serverless in the Wild"
/// (Shahrad et al., USENIX ATC 2020) never use more.
const DEFAULT_MEMORY_MIB: u32 = 170;
const MINUTE_NS: u64 = 60_000_000_000;

/// A trace in which every call has its own start and duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactTrace {
    /// Names of the functions, DNS labels, in the order of their first row.
    pub functions: Vec<String>,
    /// Its calls, in the order of their starts; calls that start together in the order of their rows.
    pub calls: Vec<ExactCall>,
    /// Length of the trace in nanoseconds; a multiple of a minute, more than the last start. A call may end after it.
    pub span_ns: u64,
    /// Memory of every call, in MiB; a caller may set it.
    pub memory_mib: u32,
}

/// One call of an exact trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactCall {
    /// Index into [`ExactTrace::functions`].
    pub function: u32,
    /// Start, in nanoseconds from the trace's zero.
    pub start_ns: u64,
    /// Run time, in microseconds.
    pub run_us: u64,
}

impl ExactTrace {
    /// Its length in minutes.
    #[must_use]
    pub fn minutes(&self) -> u32 {
        u32::try_from(self.span_ns / MINUTE_NS).unwrap_or(u32::MAX)
    }

    /// Keeps the calls that start within `minutes` minutes from `start_minute` on, and the functions they call. A call
    /// that started earlier and still runs is left out; one that runs past the window's end is kept whole.
    ///
    /// # Errors
    /// [`TraceError::Option`] when the window is empty or reaches past the trace's end.
    pub fn cut(&mut self, start_minute: u32, minutes: u32) -> Result<(), TraceError> {
        check_window(self.minutes(), start_minute, minutes)?;
        let start_ns = u64::from(start_minute) * MINUTE_NS;
        self.span_ns = u64::from(minutes) * MINUTE_NS;
        let window = start_ns..start_ns + self.span_ns;
        self.calls.retain(|call| window.contains(&call.start_ns));
        let mut positions = HashMap::new();
        let mut functions = Vec::new();
        for call in &mut self.calls {
            call.start_ns -= start_ns;
            let before = call.function as usize;
            call.function = *positions.entry(before).or_insert_with(|| {
                functions.push(self.functions[before].clone());
                u32::try_from(functions.len() - 1).expect("no more functions than before")
            });
        }
        self.functions = functions;
        Ok(())
    }
}

/// Reads `app,func,end_timestamp,duration` (seconds), in any order of rows. A call starts at its end less its duration;
/// when that is before zero for some calls, which is how the published trace begins, the earliest start becomes zero.
///
/// # Errors
/// A file that cannot be read; a cell, row or header that is not of the form, with file, row and column.
pub fn read(path: &Path) -> Result<ExactTrace, TraceError> {
    let mut table = Table::open(path)?;
    let columns = columns(&mut table, path)?;
    let mut positions: HashMap<[String; 2], u32> = HashMap::new();
    let mut identities: Vec<[String; 2]> = Vec::new();
    let mut calls: Vec<(f64, u32, u64)> = Vec::new();
    while let Some(row) = table.next_row()? {
        if calls.len() as u64 == MAX_SCHEDULED {
            return Err(row.row_error(format!("expected at most {MAX_SCHEDULED} calls, found more")));
        }
        let identity = [row.name(columns[0])?, row.name(columns[1])?];
        let function = *positions.entry(identity).or_insert_with_key(|identity| {
            identities.push(identity.clone());
            u32::try_from(identities.len() - 1).expect("no more functions than calls, which are bounded")
        });
        let end_s = within(&row, columns[2], MAX_END_S)?;
        let duration_s = within(&row, columns[3], RunTime::LIMIT_MS / 1000.0)?;
        calls.push((end_s - duration_s, function, whole(duration_s * 1e6)));
    }
    if calls.is_empty() {
        return Err(row_error(path, 2, "expected at least one call, found none".to_owned()));
    }
    let zero_s = calls.iter().map(|call| call.0).fold(0.0, f64::min);
    let exact = |&(start_s, function, run_us): &(f64, u32, u64)| ExactCall {
        function,
        start_ns: whole((start_s - zero_s) * 1e9),
        run_us,
    };
    let mut calls: Vec<ExactCall> = calls.iter().map(exact).collect();
    // By the start as it is replayed: what is one instant there keeps the order of its rows, whatever the differences of
    // binary seconds are.
    calls.sort_by_key(|call| call.start_ns);
    let last_ns = calls.last().map_or(0, |call| call.start_ns);
    let owned: Vec<[&str; 3]> =
        identities.iter().map(|[app, function]| ["", app.as_str(), function.as_str()]).collect();
    Ok(ExactTrace {
        functions: names::labels(&owned),
        span_ns: (last_ns / MINUTE_NS + 1) * MINUTE_NS,
        calls,
        memory_mib: DEFAULT_MEMORY_MIB,
    })
}

/// The columns of application, function, end and duration. A file of something else is named as such.
fn columns(table: &mut Table<'_>, path: &Path) -> Result<[Column; 4], TraceError> {
    if table.optional("HashOwner").is_some() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let problem = format!("one file of a trace of several: --trace takes their folder, {}", folder.display());
        return Err(row_error(path, 1, problem));
    }
    if table.optional("setting").is_some() {
        return Err(row_error(path, 1, "a schedule and no trace: --schedule takes it".to_owned()));
    }
    Ok([table.column("app")?, table.column("func")?, table.column("end_timestamp")?, table.column("duration")?])
}

/// A number of seconds from 0 to `limit`.
fn within(row: &Row<'_>, column: Column, limit: f64) -> Result<f64, TraceError> {
    let value = row.real(column)?;
    if !(0.0..=limit).contains(&value) {
        return Err(row.error(column, format!("expected a number of seconds from 0 to {limit}, found {value}")));
    }
    Ok(value)
}
