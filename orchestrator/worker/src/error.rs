//! The errors of starting and of running a worker.

use std::time::Duration;

use service::{BindError, ConfigError};
use thiserror::Error;

use crate::runtime::RuntimeError;

/// A worker could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The admin address is in use, or no address of this machine.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The runtime could not be built.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// A running worker failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// Sandboxes did not end in time; they die with this process.
    #[error("sandboxes were still running {0:?} after the shutdown began")]
    Sandboxes(Duration),
}
