//! Clients: one request per connection, or many on one.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sim::WAIT_TIMEOUT;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};

/// A response with its body.
#[derive(Debug)]
pub(crate) struct BufferedResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl BufferedResponse {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and `X-Dirigent-Error`.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.header("x-dirigent-error"))
    }
}

/// A GET of `path` for `host`.
pub(crate) fn request(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).body(Full::default()).unwrap()
}

pub(crate) fn with_body(method: Method, host: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).header("host", host).body(Full::new(body.into())).unwrap()
}

/// Sends on a new HTTP/1.1 connection; the body is not read yet. The task drives the connection.
pub(crate) async fn open<B>(to: SocketAddr, request: Request<B>) -> hyper::Result<(Response<Incoming>, JoinHandle<()>)>
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) = conn::http1::handshake(io).await?;
    let task = tokio::spawn(async move { drop(connection.await) });
    let response = timeout(WAIT_TIMEOUT, sender.send_request(request)).await.expect("an answer comes in time")?;
    Ok((response, task))
}

/// Sends on a new HTTP/2 connection.
pub(crate) async fn open_http2<B>(to: SocketAddr, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let io = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(async move { drop(connection.await) });
    timeout(WAIT_TIMEOUT, sender.send_request(request)).await.expect("an answer comes in time")
}

/// Reads a response to its end.
pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<BufferedResponse> {
    let (head, body) = response.into_parts();
    let body = timeout(WAIT_TIMEOUT, body.collect()).await.expect("the body ends in time")?.to_bytes();
    Ok(BufferedResponse { status: head.status, headers: head.headers, body })
}

/// The response to `request`.
pub(crate) async fn send<B>(to: SocketAddr, request: Request<B>) -> hyper::Result<BufferedResponse>
where
    B: hyper::body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + Unpin + 'static,
{
    let (response, _connection) = open(to, request).await?;
    read(response).await
}

/// The response to a GET of `path` for `host`.
pub(crate) async fn get(to: SocketAddr, host: &str, path: &str) -> BufferedResponse {
    send(to, request(host, path)).await.expect("a complete answer")
}

/// A GET in a task of its own; aborting it closes the connection.
pub(crate) fn spawn_get(to: SocketAddr, host: &str, path: &str) -> JoinHandle<BufferedResponse> {
    let request = request(host, path);
    tokio::spawn(async move { send(to, request).await.expect("a complete answer") })
}
