//! Failures of the program: one line on standard error and a documented exit code.

use std::{io, process::ExitCode};

/// Exit code of a failure.
const FAILED: u8 = 1;
/// Exit code of a usage or configuration error.
const USAGE: u8 = 2;

/// The reason why a subcommand did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It tried and failed.
    Failed(anyhow::Error),
    /// It tried and failed, and its log says why.
    Logged,
    /// The arguments make no sense: nothing was tried.
    Usage(anyhow::Error),
}

/// The result of a subcommand.
pub(crate) type Outcome = Result<(), Failure>;

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    /// Says what went wrong, and with which code to exit.
    pub(crate) fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Failed(error) if terminal::is_reader_gone(error.as_ref()) => return ExitCode::SUCCESS,
            Self::Failed(error) => (error, FAILED),
            Self::Logged => return ExitCode::from(FAILED),
            Self::Usage(error) => (error, USAGE),
        };
        terminal::note!("dirigent: {}", on_one_line(error));
        ExitCode::from(code)
    }

    /// The same said in a log line, where a program reads what this one says.
    pub(crate) fn logged(self) -> Self {
        match self {
            Self::Failed(error) if !terminal::is_reader_gone(error.as_ref()) => {
                tracing::error!(cause = on_one_line(&error), "failed");
                Self::Logged
            }
            other => other,
        }
    }
}

/// An error of several lines, such as a TOML parser's, becomes one.
fn on_one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ")
}
