//! The errors of starting and of running a control plane.

use api::TokenError;
use record::RecordError;
use service::{BindError, ConfigError};
use thiserror::Error;

use crate::store::StoreError;

/// A control plane could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The command log cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token of operators or peers cannot be created or read.
    #[error("cannot keep tokens for operators and peers")]
    Token(#[from] TokenError),
    /// The record of cold starts cannot be written.
    #[error("cannot record cold starts")]
    Record(#[from] RecordError),
}

/// A running control plane had to stop.
#[derive(Debug, Error)]
pub enum RunError {
    /// The command log cannot be written, so nothing may be acknowledged.
    #[error("cannot write the command log")]
    Store(#[from] StoreError),
    /// The streams cannot be served.
    #[error("cannot serve streams")]
    Serve(#[from] tonic::transport::Error),
}
