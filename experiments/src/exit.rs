//! Errors of the runner, and the exit codes that they mean.

use record::RecordError;
pub use terminal::{Exit, UsageError};
use thiserror::Error;

/// A finished result would be measured again, which was not requested or is not possible.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct WouldDiscard {
    /// The number of such results, and the changes since.
    pub message: String,
    /// True if the results can be measured again on this machine.
    pub can_be_made_again: bool,
}

/// The user asked to stop.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("interrupted")]
pub struct Interrupted;

/// A failure of the measured system: it did not become ready, refused functions, or ended early. Any other error
/// prevents the measurement, and says nothing about the system.
#[derive(Debug, Error)]
#[error("{0:#}")]
pub struct SystemFailed(anyhow::Error);

impl SystemFailed {
    /// Attributes an error to the system, except for [`Interrupted`].
    #[must_use]
    pub fn of(error: anyhow::Error) -> anyhow::Error {
        if error.is::<Interrupted>() { error } else { Self(error).into() }
    }
}

/// The exit code that an error means.
#[must_use]
pub fn of(error: &anyhow::Error) -> Exit {
    let is_no_run =
        |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(RecordError::NoRun { .. }));
    let is_usage = error.chain().any(|cause| cause.is::<WouldDiscard>() || is_no_run(cause));
    if is_usage { Exit::Usage } else { Exit::of(error) }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn what_the_system_did_is_kept_apart_from_all_else_and_reads_as_it_was() {
        let error = || anyhow::anyhow!("it ended with exit code 1").context("waiting for toyd");
        let failed = SystemFailed::of(error());
        assert!(failed.is::<SystemFailed>() && !error().is::<SystemFailed>());
        assert_eq!(format!("{failed:#}"), format!("{:#}", error()));
        let stopped = SystemFailed::of(anyhow::Error::from(Interrupted).context("waiting for toyd"));
        assert!(stopped.is::<Interrupted>() && !stopped.is::<SystemFailed>());
    }

    #[test]
    fn a_usage_error_is_known_under_any_context() {
        let wrapped = Err::<(), _>(UsageError("no such experiment".to_owned())).context("planning").unwrap_err();
        assert_eq!(of(&wrapped), Exit::Usage);
        assert_eq!(of(&anyhow::anyhow!("disk full")), Exit::Failed);
    }
}
