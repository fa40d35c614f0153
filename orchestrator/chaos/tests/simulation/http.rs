//! One HTTP/1.1 request on one connection of the simulated network: all that clients and operators of a run need.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use turmoil::net::TcpStream;

use super::host::Host;

/// There was no complete response.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// The connection could not be made.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection ended too early.
    #[error("{0}")]
    Broken(#[from] hyper::Error),
}

/// Sends `request` to `port` of `host`. Dropping the future closes the connection.
///
/// # Errors
/// If no complete response arrives.
pub(crate) async fn send_request(host: Host, port: u16, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let stream = TcpStream::connect((host.name(), port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Aborted together with this future, so that a client that leaves closes its connection.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}
