//! Exit codes, and the errors that only the user can correct.

use std::process::ExitCode;

use thiserror::Error;

/// The end of a command, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// Done.
    Done,
    /// Stopped by the user, or failed.
    Failed,
    /// The run may not be used.
    Invalid,
}

/// An input or an option that only the user can correct; the message says where and what was expected.
#[derive(Debug, Error)]
#[error("{0:#}")]
pub(crate) struct UsageError(pub(crate) anyhow::Error);

impl UsageError {
    /// Marks an error as the user's to correct.
    pub(crate) fn of(error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(Self(error.into()))
    }
}

/// The exit code of a command's result; an error is printed on one line.
pub(crate) fn exit_code(result: &anyhow::Result<ExitStatus>) -> ExitCode {
    match result {
        Ok(ExitStatus::Done) => ExitCode::SUCCESS,
        Ok(ExitStatus::Failed) => ExitCode::from(1),
        Ok(ExitStatus::Invalid) => ExitCode::from(3),
        Err(error) => {
            terminal::note!("loadgen: {error:#}");
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}
