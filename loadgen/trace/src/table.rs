//! Reading a CSV file by the names of its columns, where every refusal says file, row, column and what was expected.

use std::{fs::File, path::Path};

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use crate::TraceError;

/// Most characters of a refused cell that a message repeats.
const SHOWN: usize = 40;

/// First bytes of a pointer file, which Git LFS leaves instead of the real one.
pub(crate) const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/";
/// The message about a pointer file.
pub(crate) const LFS_PROBLEM: &str =
    "a Git LFS pointer is there instead of the file: `git lfs pull` in its repository fetches it";
/// First bytes of compressed files and archives.
const PACKED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"Rar!", "rar"),
];
/// The name given to a first column that has none, and the one that data-frame libraries give it when they read it back.
const INDEX_COLUMNS: [&str; 2] = ["(index)", "Unnamed: 0"];
/// Optional prefix of the number of a minute.
const MINUTE_PREFIX: &str = "minute_";

/// Position of a column in its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column(usize);

/// An open CSV file with a header.
pub(crate) struct Table<'a> {
    path: &'a Path,
    reader: Reader<File>,
    header: Vec<String>,
    used: Vec<bool>,
    record: ByteRecord,
}

impl<'a> Table<'a> {
    /// Opens the file and reads its header.
    pub(crate) fn open(path: &'a Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::File { path: path.to_owned(), source })?;
        let mut reader = ReaderBuilder::new().has_headers(false).from_reader(file);
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(|error| refusal(path, error))? {
            return Err(row_error(path, 1, "expected a header, found an empty file".to_owned()));
        }
        let first = record.get(0).unwrap_or_default();
        if first.starts_with(LFS_POINTER) {
            return Err(row_error(path, 1, LFS_PROBLEM.to_owned()));
        }
        if let Some((_, form)) = PACKED.iter().find(|(start, _)| first.starts_with(start)) {
            return Err(row_error(path, 1, format!("expected a header, found a {form} file: unpack it first")));
        }
        let mut header: Vec<String> = Vec::with_capacity(record.len());
        let mut used = vec![false; record.len()];
        for (index, cell) in record.iter().enumerate() {
            if index == 0 && (cell.is_empty() || cell == INDEX_COLUMNS[1].as_bytes()) {
                // The row numbers that data-frame libraries write.
                header.push(INDEX_COLUMNS[0].to_owned());
                used[0] = true;
                continue;
            }
            let name = std::str::from_utf8(cell).map(str::trim).ok().filter(|name| !name.is_empty());
            let fresh = name.filter(|name| !header.iter().any(|before| before == name));
            let Some(name) = fresh else {
                let problem = format!("expected a name, different from the others, found {}", shown(cell));
                return Err(cell_error(path, 1, format!("number {}", index + 1), problem));
            };
            header.push(name.to_owned());
        }
        Ok(Self { path, reader, header, used, record })
    }

    /// The column of that name.
    pub(crate) fn column(&mut self, name: &str) -> Result<Column, TraceError> {
        self.optional(name).ok_or_else(|| {
            let names = self.header.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
            let more = if self.header.len() > 12 { ", …" } else { "" };
            let problem = format!("expected a column of this name, found {names}{more}");
            cell_error(self.path, 1, name.to_owned(), problem)
        })
    }

    /// The column of that name, if the file has one.
    pub(crate) fn optional(&mut self, name: &str) -> Option<Column> {
        let index = self.header.iter().position(|column| column == name)?;
        self.used[index] = true;
        Some(Column(index))
    }

    /// The columns whose names are whole numbers, alone or after `minute_`, with these numbers, in the order of the numbers.
    pub(crate) fn numbered(&mut self) -> Vec<(u32, Column)> {
        let mut columns = Vec::new();
        for (index, name) in self.header.iter().enumerate() {
            let name = name.strip_prefix(MINUTE_PREFIX).unwrap_or(name);
            if let Some(label) = name.parse().ok().filter(|_| name.bytes().all(|byte| byte.is_ascii_digit())) {
                self.used[index] = true;
                columns.push((label, Column(index)));
            }
        }
        columns.sort_by_key(|&(label, _)| label);
        columns
    }

    /// An error about the header.
    pub(crate) fn header_error(&self, column: &str, problem: String) -> TraceError {
        cell_error(self.path, 1, column.to_owned(), problem)
    }

    /// The columns that were not read and are not in `known`, as `file: column`.
    pub(crate) fn ignored(&self, known: &[&str]) -> Vec<String> {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let unread =
            self.header.iter().zip(&self.used).filter(|(name, used)| !**used && !known.contains(&name.as_str()));
        unread.map(|(name, _)| format!("{file}: {name}")).collect()
    }

    /// The next row, which has as many cells as the header; `None` after the last.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row<'_>>, TraceError> {
        let more = self.reader.read_byte_record(&mut self.record).map_err(|error| refusal(self.path, error))?;
        let number = self.record.position().map_or(0, csv::Position::line);
        Ok(more.then_some(Row { path: self.path, header: &self.header, record: &self.record, number }))
    }
}

/// One row of a [`Table`].
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    path: &'a Path,
    header: &'a [String],
    record: &'a ByteRecord,
    number: u64,
}

impl<'a> Row<'a> {
    /// Line in the file; the header is row 1. After blank lines, which are skipped, it is the first of them.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The cell as text, without surrounding spaces.
    pub(crate) fn text(&self, column: Column) -> Result<&'a str, TraceError> {
        let cell = self.record.get(column.0).unwrap_or_default();
        let text = std::str::from_utf8(cell).map(str::trim);
        text.map_err(|_| self.error(column, format!("expected UTF-8 text, found {}", shown(cell))))
    }

    /// The cell as text that is not empty.
    pub(crate) fn name(&self, column: Column) -> Result<String, TraceError> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Err(self.error(column, "expected a name, found nothing".to_owned()));
        }
        Ok(text.to_owned())
    }

    /// Returns true if the cell has no value: it is empty, or `nan` as libraries write that.
    pub(crate) fn is_missing(&self, column: Column) -> Result<bool, TraceError> {
        let text = self.text(column)?;
        Ok(text.is_empty() || text.eq_ignore_ascii_case("nan"))
    }

    /// The cell as a whole number of at most `limit`.
    pub(crate) fn whole(&self, column: Column, limit: u64) -> Result<u64, TraceError> {
        let text = self.text(column)?;
        // As libraries write whole numbers of a column in which some are missing.
        let digits = text.strip_suffix(".0").unwrap_or(text);
        digits.parse().ok().filter(|&value| value <= limit).ok_or_else(|| {
            self.error(column, format!("expected a whole number from 0 to {limit}, found {}", shown(text.as_bytes())))
        })
    }

    /// The cell as a finite number.
    pub(crate) fn real(&self, column: Column) -> Result<f64, TraceError> {
        let text = self.text(column)?;
        let value: Option<f64> = text.parse().ok();
        value
            .filter(|value| value.is_finite())
            .ok_or_else(|| self.error(column, format!("expected a finite number, found {}", shown(text.as_bytes()))))
    }

    /// An error about one cell of this row.
    pub(crate) fn error(&self, column: Column, problem: String) -> TraceError {
        cell_error(self.path, self.number, self.header[column.0].clone(), problem)
    }

    /// An error about this row.
    pub(crate) fn row_error(&self, problem: String) -> TraceError {
        row_error(self.path, self.number, problem)
    }
}

fn shown(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(cell);
    let head: String = text.chars().take(SHOWN).collect();
    if head.len() < text.len() { format!("{head:?}…") } else { format!("{head:?}") }
}

pub(crate) fn cell_error(path: &Path, row: u64, column: String, problem: String) -> TraceError {
    TraceError::Cell { path: path.to_owned(), row, column, problem }
}

pub(crate) fn row_error(path: &Path, row: u64, problem: String) -> TraceError {
    TraceError::Row { path: path.to_owned(), row, problem }
}

/// An error of the CSV library as one of this crate.
pub(crate) fn refusal(path: &Path, error: csv::Error) -> TraceError {
    let row = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(source) => TraceError::File { path: path.to_owned(), source },
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            row_error(path, row, format!("expected {expected_len} columns as in the header, found {len}"))
        }
        other => row_error(path, row, format!("expected comma-separated values: {other:?}")),
    }
}
