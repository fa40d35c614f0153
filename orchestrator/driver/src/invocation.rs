//! Invocations by clients of one connection each, which is open before the first invocation.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An open connection to a data plane.
pub(crate) struct Client(SendRequest<Empty<Bytes>>);

/// The response to an invocation.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) cold: bool,
    pub(crate) sandbox: String,
}

impl Client {
    /// Opens a connection.
    ///
    /// # Errors
    /// If the data plane does not accept it.
    pub(crate) async fn connect(data_plane: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(data_plane).await.context("connecting to the data plane")?;
        // Otherwise the kernel may hold a small request back until an acknowledgement (Nagle's algorithm).
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Its errors also reach the sender, which reports them.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Invokes `function` for `run_ms` and reads the whole response.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn invoke(&mut self, function: &str, run_ms: u64) -> anyhow::Result<Response> {
        let request = Request::post("/").header("host", function).header("workload", "trace");
        let request = request.header("requested_cpu", run_ms).body(Empty::new())?;
        let response = self.0.send_request(request).await.context("invoking a function")?;
        let read = Response::from_head(response.status(), response.headers());
        response.into_body().collect().await.context("reading a response")?;
        Ok(read)
    }
}

impl Response {
    fn from_head(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self { status, cold: text("x-dirigent-cold") == "1", sandbox: text("x-dirigent-sandbox").to_owned() }
    }

    /// # Errors
    /// If the invocation failed.
    pub(crate) fn check(self) -> anyhow::Result<Self> {
        ensure!(self.status == StatusCode::OK, "an invocation failed with status {}", self.status);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_whether_it_was_a_cold_start_and_where_it_ran() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let cold = headers(&[("x-dirigent-cold", "1"), ("x-dirigent-sandbox", "3-7")]);
        let cold = Response::from_head(StatusCode::OK, &cold);
        assert!(cold.cold && cold.sandbox == "3-7" && cold.check().is_ok());
        let warm = Response::from_head(StatusCode::OK, &headers(&[("x-dirigent-cold", "0")]));
        assert!(!warm.cold && warm.sandbox.is_empty());
    }

    #[test]
    fn a_response_other_than_200_is_a_failure_with_its_status() {
        let refused = Response::from_head(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new());
        assert!(refused.check().unwrap_err().to_string().contains("503"));
    }
}
