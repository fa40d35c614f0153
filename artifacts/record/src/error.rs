//! Errors of writing and reading records.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A record could not be written or read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file itself.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A directory is not that of a run.
    #[error("{} holds no run: there is no manifest.json in it", directory.display())]
    NoRun {
        /// The directory.
        directory: PathBuf,
    },
    /// A row is not of the expected form.
    #[error("{}, row {row}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Row number; the header is row 1.
        row: u64,
        /// The column, if known, and what was expected.
        problem: String,
    },
    /// A JSON document is not of the expected form.
    #[error("{}", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// Line, column and what was expected.
        source: serde_json::Error,
    },
    /// The definition that a manifest holds as text is not of the expected form.
    #[error("the definition in the manifest cannot be read")]
    Definition {
        /// Line, key and what was expected.
        source: Box<toml::de::Error>,
    },
    /// Written by a newer program.
    #[error("{} has schema version {found}, this program reads up to {known}: use a newer one", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The greatest version this program knows.
        known: u32,
    },
}
