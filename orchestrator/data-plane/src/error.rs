//! The errors of starting and of running a data plane.

use service::{BindError, ConfigError};
use thiserror::Error;
use tokio::task::JoinError;

/// The data plane could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// The data plane ended before it was asked to shut down.
#[derive(Debug, Error)]
pub enum RunError {
    /// A background task panicked.
    #[error("a background task of the data plane panicked")]
    Task(#[from] JoinError),
}
