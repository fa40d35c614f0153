//! Invocations as a client makes them: one connection each, opened beforehand.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An open connection to a data plane.
pub(crate) struct Client(SendRequest<Empty<Bytes>>);

/// How an invocation ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) cold: bool,
    pub(crate) sandbox: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody takes the connection.
    pub(crate) async fn connect(data_plane: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(data_plane).await.context("connecting to the data plane")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors reach the sender.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Invokes `function` for `run_ms` and waits for the whole answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn invoke(&mut self, function: &str, run_ms: u64) -> anyhow::Result<Answer> {
        let request = Request::post("/").header("host", function).header("workload", "trace");
        let request = request.header("requested_cpu", run_ms).body(Empty::new())?;
        let answer = self.0.send_request(request).await.context("invoking a function")?;
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (cold, sandbox) = (text("x-dirigent-cold") == "1", text("x-dirigent-sandbox").to_owned());
        let status = answer.status();
        answer.into_body().collect().await.context("reading an answer")?;
        Ok(Answer { status, cold, sandbox })
    }
}

impl Answer {
    /// # Errors
    /// When it is a failure.
    pub(crate) fn check(self) -> anyhow::Result<Self> {
        ensure!(self.status == StatusCode::OK, "an invocation was answered {}", self.status);
        Ok(self)
    }
}
