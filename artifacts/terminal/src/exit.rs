//! Exit codes of all programs, and the errors that decide which one a program ends with.

use std::{fmt, process::ExitCode};

use thiserror::Error;

use crate::{document::DocumentError, output::is_reader_gone};

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A step failed, or the user stopped it.
    Failed = 1,
    /// The command line or a file that the user wrote is wrong.
    Usage = 2,
    /// The run may not be used.
    Invalid = 3,
    /// A claim or threshold does not hold.
    NotHeld = 4,
}

impl Exit {
    /// The meaning, for the help of a program.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage or configuration error",
            Self::Invalid => "the run is invalid",
            Self::NotHeld => "a claim or threshold did not hold",
        }
    }

    /// What the exit code of one of this workspace's programs means; any other code is a failure.
    #[must_use]
    pub fn of_code(code: Option<i32>) -> Self {
        let all = [Self::Done, Self::Failed, Self::Usage, Self::Invalid, Self::NotHeld];
        all.into_iter().find(|exit| Some(*exit as i32) == code).unwrap_or(Self::Failed)
    }

    /// The code that an error means: [`Exit::Usage`] if a cause of it is for the user to correct, otherwise
    /// [`Exit::Failed`]. That the reader of standard output has gone is no failure.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        if is_reader_gone(error.as_ref()) {
            return Self::Done;
        }
        let is_usage =
            error.chain().any(|cause| cause.is::<UsageError>() || cause.is::<Marked>() || cause.is::<DocumentError>());
        if is_usage { Self::Usage } else { Self::Failed }
    }

    /// The code of higher precedence, of two for one command: a failure is not checked for validity, and an invalid run
    /// holds no claim.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let precedence = |exit| {
            [Self::Done, Self::NotHeld, Self::Invalid, Self::Failed, Self::Usage].iter().position(|one| *one == exit)
        };
        if precedence(other) > precedence(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The request names something that does not exist, or is contradictory: only the user can correct it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// Marks an error, with its causes, as the user's to correct.
    #[must_use]
    pub fn of(error: impl Into<anyhow::Error>) -> anyhow::Error {
        Marked(error.into()).into()
    }
}

/// An error that is the user's to correct. It shows the message and the causes of the error inside.
#[derive(Debug)]
struct Marked(anyhow::Error);

impl fmt::Display for Marked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl std::error::Error for Marked {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// The program failed, and has reported the reason in another place, such as its log.
#[derive(Clone, Copy, Debug, Error)]
#[error("the reason was reported before")]
pub struct Reported;

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn an_invalid_run_outweighs_a_claim_that_does_not_hold() {
        assert_eq!(Exit::NotHeld.or(Exit::Invalid), Exit::Invalid);
        assert_eq!(Exit::Invalid.or(Exit::NotHeld), Exit::Invalid);
        assert_eq!(Exit::Failed.or(Exit::Invalid), Exit::Failed);
        assert_eq!(Exit::Done.or(Exit::NotHeld), Exit::NotHeld);
    }

    #[test]
    fn an_exit_code_is_read_back_and_an_unknown_one_is_a_failure() {
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Invalid, Exit::NotHeld] {
            assert_eq!(Exit::of_code(Some(exit as i32)), exit);
        }
        assert_eq!([Exit::of_code(Some(101)), Exit::of_code(None)], [Exit::Failed; 2]);
    }

    #[test]
    fn a_usage_error_is_recognised_under_any_context() {
        let wrapped = Err::<(), _>(UsageError("no such experiment".to_owned())).context("planning").unwrap_err();
        assert_eq!(Exit::of(&wrapped), Exit::Usage);
        assert_eq!(Exit::of(&UsageError::of(anyhow!("disk full")).context("planning")), Exit::Usage);
        assert_eq!(Exit::of(&anyhow!("disk full")), Exit::Failed);
    }

    #[test]
    fn a_marked_error_keeps_its_message_and_causes() {
        let error = || anyhow!("invalid digit").context("line 3").context("f.csv");
        assert_eq!(format!("{:#}", UsageError::of(error())), format!("{:#}", error()));
    }
}
