//! Why a trace or a schedule could not be read, made or written; every message says where and what was expected.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A trace or a schedule could not be read, made or written.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file itself.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A directory is not a trace.
    #[error("{}: {problem}", path.display())]
    Folder {
        /// Which directory.
        path: PathBuf,
        /// What was expected and what is there.
        problem: String,
    },
    /// A path has no known format, several, or another one than was named.
    #[error("{}: {problem}", path.display())]
    Format {
        /// Which path.
        path: PathBuf,
        /// What was found, and which formats are known.
        problem: String,
    },
    /// One cell is not what its column holds, or its column is not what the format has.
    #[error("{}, row {row}, column {column}: {problem}", path.display())]
    Cell {
        /// Which file.
        path: PathBuf,
        /// Line in the file; the header is row 1.
        row: u64,
        /// Name of the column, as in the header.
        column: String,
        /// What was expected and what is there.
        problem: String,
    },
    /// A row as a whole, or the file after its last row, is not what the format has.
    #[error("{}, row {row}: {problem}", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// Line in the file; the header is row 1.
        row: u64,
        /// What was expected and what is there.
        problem: String,
    },
    /// More invocations than can be held.
    #[error("{what}: {found} invocations, at most {limit} are possible")]
    TooMany {
        /// The file or the part of the work.
        what: String,
        /// How many there would be.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// An option is outside its range, or does not fit the trace.
    #[error("--{option}: {problem}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was expected and what was given.
        problem: String,
    },
    /// No sample of this trace fits.
    #[error("--functions: no sample of {functions} functions fits: {possible}")]
    Sample {
        /// How many functions were asked for.
        functions: usize,
        /// What would be possible.
        possible: String,
    },
}
