//! The peer's end of a stream: the handshake with the control plane, and the errors that data planes and workers share.

use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use crate::{
    ConnectError, TokenError, WireError, check_size, cluster_of_refusal, describe_refusal, is_name_conflict, is_refusal,
};

/// Maximum time until the control plane accepts a stream, and again until its welcome. Later, it is unresponsive.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream to a control plane ended, or could not be opened.
#[derive(Debug, Error)]
pub enum SessionError {
    /// No connection was established.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The token cannot be read.
    #[error("no token for the control plane")]
    Token(#[from] TokenError),
    /// The server at the address refused the stream before a welcome.
    #[error("{}", describe_refusal(.0))]
    Refused(Status),
    /// The stream ended with an error after the welcome.
    #[error("the stream broke: {}", .0.message())]
    Broke(Status),
    /// The control plane ended the stream.
    #[error("the control plane closed the stream")]
    Closed,
    /// The control plane does not respond.
    #[error("no welcome within {WELCOME_TIMEOUT:?}")]
    NoWelcome,
    /// A message cannot be used.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl SessionError {
    /// Returns true if a control plane responded that it does not accept this peer in its present configuration.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(status) if is_refusal(status))
    }

    /// Returns true if a control plane refused this peer because another process has its name.
    #[must_use]
    pub fn is_for_name(&self) -> bool {
        matches!(self, Self::Refused(status) if is_name_conflict(status))
    }

    /// Returns true if a control plane refused this peer because it belongs to another cluster.
    #[must_use]
    pub fn is_for_cluster(&self) -> bool {
        matches!(self, Self::Refused(status) if cluster_of_refusal(status).is_some())
    }
}

/// Waits until a stream is open and its first message has arrived.
///
/// # Errors
/// If the stream is refused, closed, or the control plane does not respond in time.
pub async fn handshake<M>(
    open: impl Future<Output = Result<Response<Streaming<M>>, Status>>,
) -> Result<(M, Streaming<M>), SessionError> {
    let opened = timeout(WELCOME_TIMEOUT, open).await.map_err(|_| SessionError::NoWelcome)?;
    let mut stream = opened.map_err(SessionError::Refused)?.into_inner();
    let first = timeout(WELCOME_TIMEOUT, stream.message()).await.map_err(|_| SessionError::NoWelcome)?;
    let first = first.map_err(SessionError::Refused)?.ok_or(SessionError::Closed)?;
    Ok((first, stream))
}

/// Waits for the next message of a stream after the handshake.
///
/// # Errors
/// If the stream ended, or the message is too large.
pub async fn next_message<M: prost::Message>(stream: &mut Streaming<M>) -> Result<M, SessionError> {
    let message = stream.message().await.map_err(SessionError::Broke)?.ok_or(SessionError::Closed)?;
    check_size(&message)?;
    Ok(message)
}
