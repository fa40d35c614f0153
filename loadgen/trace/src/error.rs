//! Errors of reading, making and writing traces and schedules; every message names the position and what was expected.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A trace or a schedule could not be read, made or written.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file itself.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A directory is not a trace.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// The directory.
        path: PathBuf,
        /// The expected and the found content.
        problem: String,
    },
    /// A path has no known format, several, or another one than was named.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The path.
        path: PathBuf,
        /// The findings of each format, and the option that names one.
        problem: String,
    },
    /// One cell is not what its column holds, or its column is not what the format has.
    #[error("{}, row {row}, column {column}: {problem}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line in the file; the header is row 1.
        row: u64,
        /// Name of the column, as in the header.
        column: String,
        /// The expected and the found content.
        problem: String,
    },
    /// A row as a whole, or the file after its last row, is not what the format has.
    #[error("{}, row {row}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line in the file; the header is row 1.
        row: u64,
        /// The expected and the found content.
        problem: String,
    },
    /// More invocations than can be held.
    #[error("{what}: {found} invocations, at most {limit} are possible")]
    TooMany {
        /// The file or the part of the work.
        what: String,
        /// Number of invocations there would be.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// An option is outside its range, or does not fit the trace.
    #[error("--{option}: {problem}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The expected and the given value.
        problem: String,
    },
    /// No sample of this trace fits.
    #[error("--functions: no sample of {functions} functions fits: {possible}")]
    Sample {
        /// Number of functions to choose.
        functions: usize,
        /// The possible numbers.
        possible: String,
    },
}
