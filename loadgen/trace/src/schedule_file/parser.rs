//! Reads the file form of a schedule, line by line: it may come from another tool, so nothing about it is trusted.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    str::FromStr,
};

use super::{BUFFER, FORMAT, FUNCTION_COLUMNS, INVOCATION_COLUMNS, SETTING_COLUMNS, VERSION, notes};
use crate::{
    Due, Phase, Schedule, ScheduledFunction, TraceError,
    names::{LABEL, is_label},
    schedule::{MAX_MEMORY_MIB, MAX_RUN_US, MAX_SCHEDULED},
    table::{LFS_POINTER, LFS_PROBLEM, cell_error, row_error},
};

/// Longest line, in bytes; the longest that is written is a setting.
const MAX_LINE: u64 = 64 * 1024;

pub(super) fn read(path: &Path) -> Result<Schedule, TraceError> {
    let file = File::open(path).map_err(|source| TraceError::File { path: path.to_owned(), source })?;
    let mut parser = Parser { path, reader: BufReader::with_capacity(BUFFER, file), line: String::new(), row: 0 };
    let mut settings = parser.settings()?;
    let (functions, invocations) = (settings.count("functions")?, settings.count("invocations")?);
    let (seed, span_ns) = (settings.own("seed")?, settings.own("span_ns")?);
    let functions = parser.functions(functions)?;
    let invocations = parser.invocations(invocations, &functions, span_ns)?;
    let notes = notes::take(&mut settings.entries);
    Ok(Schedule { functions, invocations, seed, span_ns, settings: settings.entries, notes })
}

/// The first table.
struct Settings<'a> {
    path: &'a Path,
    entries: BTreeMap<String, String>,
    rows: HashMap<String, u64>,
}

impl Settings<'_> {
    /// Takes out one of the form's own settings, a whole number.
    fn own(&mut self, key: &'static str) -> Result<u64, TraceError> {
        let row = self.rows.get(key).copied().unwrap_or(1);
        let missing = || row_error(self.path, row, format!("expected a setting {key}, found none"));
        let text = self.entries.remove(key).ok_or_else(missing)?;
        let problem = format!("expected a whole number as {key}, found {text:?}");
        text.parse().map_err(|_| cell_error(self.path, row, SETTING_COLUMNS[1].to_owned(), problem))
    }

    /// As [`Settings::own`], for the length of a table.
    fn count(&mut self, key: &'static str) -> Result<usize, TraceError> {
        let count = self.own(key)?;
        if count > MAX_SCHEDULED {
            let what = format!("{key} in {}", self.path.display());
            return Err(TraceError::TooMany { what, found: count, limit: MAX_SCHEDULED });
        }
        Ok(usize::try_from(count).expect("the bound fits a length"))
    }
}

/// Reads line after line.
struct Parser<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    line: String,
    row: u64,
}

impl<'a> Parser<'a> {
    /// Moves to the next line; false at the end of the file. A last line without its break was cut off.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let mut bytes = std::mem::take(&mut self.line).into_bytes();
        bytes.clear();
        self.row += 1;
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes);
        read.map_err(|source| TraceError::File { path: self.path.to_owned(), source })?;
        if bytes.is_empty() {
            return Ok(false);
        }
        if bytes.pop() != Some(b'\n') {
            // Every line that is written ends with one, so without it a number may lack its last digits.
            let problem = if (bytes.len() as u64) < MAX_LINE - 1 {
                "expected a line break, found the end of the file: its end is missing".to_owned()
            } else {
                format!("expected a line break within {MAX_LINE} bytes, found none")
            };
            return Err(self.row_error(problem));
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        self.line = String::from_utf8(bytes).map_err(|_| self.row_error("expected UTF-8 text".to_owned()))?;
        Ok(true)
    }

    /// Moves to the next line, which must have as many cells as there are columns; `what` is what it should hold.
    fn next<const N: usize>(&mut self, columns: &'static [&'static str; N], what: &str) -> Result<(), TraceError> {
        if !self.advance()? {
            return Err(self.row_error(format!("expected {what}, found the end of the file")));
        }
        let found = self.line.split(',').count();
        if found != N {
            return Err(self.row_error(format!("expected {what} ({}), found {found} columns", columns.join(","))));
        }
        Ok(())
    }

    fn blank(&mut self) -> Result<(), TraceError> {
        if self.advance()? && !self.line.is_empty() {
            return Err(self.row_error("expected a blank line after the table".to_owned()));
        }
        Ok(())
    }

    fn header<const N: usize>(&mut self, columns: &'static [&'static str; N]) -> Result<(), TraceError> {
        self.next_header(columns)?;
        for (column, cell) in columns.iter().zip(self.line.split(',')) {
            if cell != *column {
                let problem = format!("expected a column of this name, found {cell:?}");
                return Err(cell_error(self.path, self.row, (*column).to_owned(), problem));
            }
        }
        Ok(())
    }

    fn next_header<const N: usize>(&mut self, columns: &'static [&'static str; N]) -> Result<(), TraceError> {
        let next = self.next(columns, "a header");
        if self.line.as_bytes().starts_with(LFS_POINTER) {
            return Err(self.row_error(LFS_PROBLEM.to_owned()));
        }
        next
    }

    fn row_error(&self, problem: String) -> TraceError {
        row_error(self.path, self.row, problem)
    }

    /// The cells of the current line, which [`Parser::next`] has counted.
    fn cells<const N: usize>(&self, columns: &'static [&'static str; N]) -> Cells<'_, N> {
        let mut texts = [""; N];
        for (text, cell) in texts.iter_mut().zip(self.line.split(',')) {
            *text = cell;
        }
        Cells { path: self.path, row: self.row, columns, texts }
    }

    fn settings(&mut self) -> Result<Settings<'a>, TraceError> {
        self.header(&SETTING_COLUMNS).map_err(no_schedule)?;
        for (key, value) in [("format", FORMAT), ("version", VERSION)] {
            self.next(&SETTING_COLUMNS, "a setting")?;
            let cells = self.cells(&SETTING_COLUMNS);
            if cells.texts != [key, value] {
                return Err(cells.error(1, &format!("{key},{value}")));
            }
        }
        let mut settings = Settings { path: self.path, entries: BTreeMap::new(), rows: HashMap::new() };
        while self.advance()? && !self.line.is_empty() {
            let Some((key, value)) = self.line.split_once(',').filter(|(_, value)| !value.contains(',')) else {
                return Err(self.row_error("expected a setting and its value, or a blank line".to_owned()));
            };
            settings.rows.insert(key.to_owned(), self.row);
            if settings.entries.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(self.cells(&SETTING_COLUMNS).error(0, "each setting once"));
            }
        }
        Ok(settings)
    }

    fn functions(&mut self, count: usize) -> Result<Vec<ScheduledFunction>, TraceError> {
        self.header(&FUNCTION_COLUMNS)?;
        // Not reserved in advance: the count is the file's word only.
        let mut functions = Vec::new();
        for _ in 0..count {
            self.next(&FUNCTION_COLUMNS, "a function")?;
            let cells = self.cells(&FUNCTION_COLUMNS);
            let name = cells.texts[0].to_owned();
            if !is_label(&name) {
                return Err(cells.error(0, LABEL));
            }
            functions.push(ScheduledFunction { name, memory_mib: cells.memory_mib(1)?, invocations: cells.number(2)? });
        }
        self.blank()?;
        Ok(functions)
    }

    fn invocations(
        &mut self,
        count: usize,
        functions: &[ScheduledFunction],
        span_ns: u64,
    ) -> Result<Vec<Due>, TraceError> {
        self.header(&INVOCATION_COLUMNS)?;
        let positions: HashMap<&str, u32> = functions.iter().map(|function| function.name.as_str()).zip(0..).collect();
        if positions.len() != functions.len() {
            return Err(self.row_error("expected functions of different names in the second table".to_owned()));
        }
        let mut counted = vec![0_u64; functions.len()];
        let mut invocations = Vec::new();
        let mut before_ns = 0;
        for _ in 0..count {
            self.next(&INVOCATION_COLUMNS, "an invocation")?;
            let cells = self.cells(&INVOCATION_COLUMNS);
            let due = cells.invocation(&positions)?;
            if due.due_ns < before_ns || due.due_ns > span_ns {
                return Err(cells.error(0, &format!("a time from {before_ns} to {span_ns}")));
            }
            before_ns = due.due_ns;
            counted[due.function as usize] += 1;
            invocations.push(due);
        }
        if self.advance()? {
            return Err(self.row_error(format!("expected the end after {count} invocations")));
        }
        let mut both = functions.iter().zip(counted);
        if let Some((function, found)) = both.find(|(function, found)| function.invocations != *found) {
            let problem = format!("expected {} invocations of {}, found {found}", function.invocations, function.name);
            return Err(self.row_error(problem));
        }
        Ok(invocations)
    }
}

/// Adds to what is wrong with a first line which files are schedules.
fn no_schedule(error: TraceError) -> TraceError {
    let hint = |problem| format!("{problem}: --schedule takes what `loadgen schedule` wrote, --trace takes traces");
    match error {
        TraceError::Row { path, row, problem } if problem != LFS_PROBLEM => {
            TraceError::Row { path, row, problem: hint(problem) }
        }
        TraceError::Cell { path, row, column, problem } => {
            TraceError::Cell { path, row, column, problem: hint(problem) }
        }
        other => other,
    }
}

/// The cells of one line.
struct Cells<'a, const N: usize> {
    path: &'a Path,
    row: u64,
    columns: &'static [&'static str; N],
    texts: [&'a str; N],
}

impl<const N: usize> Cells<'_, N> {
    fn number<T: FromStr>(&self, index: usize) -> Result<T, TraceError> {
        self.texts[index].parse().map_err(|_| self.error(index, "a whole number in its range"))
    }

    fn run_us(&self, index: usize) -> Result<u64, TraceError> {
        let run_us = self.number(index)?;
        let expected = || format!("at most 30 days, {MAX_RUN_US}");
        if run_us > MAX_RUN_US { Err(self.error(index, &expected())) } else { Ok(run_us) }
    }

    fn memory_mib(&self, index: usize) -> Result<u32, TraceError> {
        let memory_mib = self.number(index)?;
        let possible = 1..=MAX_MEMORY_MIB;
        let expected = || format!("a whole number from 1 to {MAX_MEMORY_MIB}");
        if possible.contains(&memory_mib) { Ok(memory_mib) } else { Err(self.error(index, &expected())) }
    }

    fn error(&self, index: usize, expected: &str) -> TraceError {
        let problem = format!("expected {expected}, found {:?}", self.texts[index]);
        cell_error(self.path, self.row, self.columns[index].to_owned(), problem)
    }

    fn invocation(&self, positions: &HashMap<&str, u32>) -> Result<Due, TraceError> {
        let function = positions.get(self.texts[1]).copied();
        let phase = Phase::parse(self.texts[4]);
        Ok(Due {
            due_ns: self.number(0)?,
            function: function.ok_or_else(|| self.error(1, "a function of the second table"))?,
            run_us: self.run_us(2)?,
            memory_mib: self.memory_mib(3)?,
            phase: phase.ok_or_else(|| self.error(4, "warmup or measured"))?,
        })
    }
}
