//! Errors of reading a run.

use std::path::PathBuf;

use record::RecordError;
use thiserror::Error;

/// The input is not a run that can be analysed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A file of the run is missing or malformed.
    #[error("cannot read the run")]
    Record(#[from] RecordError),
    /// There is nothing to analyse.
    #[error("{}: no rows found, expected <system>/<point>/<repetition>/invocations.csv.zst", .0.display())]
    NoRows(PathBuf),
    /// The rows are not in the form in which they are written.
    #[error("{}: expected zstd frames, found something else", .0.display())]
    NotZstd(PathBuf),
    /// A value in a row contradicts the file's format.
    #[error("{}, row {row}: column `{column}`: expected {expected}, found {found}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Row number; the header is row 1.
        row: u64,
        /// The column.
        column: &'static str,
        /// Values allowed there.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// Two runs measured different things.
    #[error("runs of one experiment at one scale can be compared; these are of {before} and {after}")]
    NotComparable {
        /// Experiment and scale of the first.
        before: String,
        /// Experiment and scale of the second.
        after: String,
    },
    /// The run has nothing that this figure shows.
    #[error("{}: no figure for it: {reason}", figure)]
    NoFigure {
        /// Name of the figure.
        figure: &'static str,
        /// The missing data.
        reason: String,
    },
}
