//! The control plane through its interfaces: HTTP for operators, streams for its peers, the log on disk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod identity;
mod log;
mod operators;
mod plausibility;
mod streams;
mod top;

use std::{path::Path, sync::Arc, time::Duration};

use api::{CLUSTER_TOKEN_FILE, Token};
use control_plane::{Addresses, Config, Handle, RedbStore, Service};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use service::{ANY_LOOPBACK, OsNetwork};
use sim::StreamPort;
use tokio::net::TcpStream;

/// A running control plane.
struct Running {
    stream: StreamPort,
    http: String,
    /// What opens it for writing.
    token: String,
    handle: Handle,
}

impl Running {
    async fn start(data_dir: &Path) -> Self {
        Self::start_with(Config { data_dir: data_dir.to_owned(), ..Config::default() }).await
    }

    async fn start_with(config: Config) -> Self {
        let config = Config { stream: ANY_LOOPBACK, http: ANY_LOOPBACK, ..config };
        let data_dir = config.data_dir.clone();
        let store = Box::new(RedbStore::open(&config.data_dir).unwrap());
        let handle = Service::start(config, Arc::new(OsNetwork), store).await.unwrap();
        let Addresses { stream, http } = *handle.addresses();
        let token = Token::read(&data_dir.join(CLUSTER_TOKEN_FILE)).ok();
        let stream = StreamPort { address: stream.to_string(), token };
        let token = std::fs::read_to_string(data_dir.join("token")).unwrap_or_default().trim().to_owned();
        Self { stream, http: http.to_string(), token, handle }
    }

    async fn stop(self) {
        self.handle.shutdown();
        self.handle.stopped().await.unwrap();
    }

    /// Status and body of one request of an operator.
    async fn request(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Bytes) {
        let is_form = ["/", "/registerService"].contains(&path);
        let kind = if is_form { "application/x-www-form-urlencoded" } else { "application/json" };
        let bearer = format!("Bearer {}", self.token);
        let headers = [("host", "control-plane"), ("content-type", kind), ("authorization", &bearer)];
        self.request_with(method, path, &headers, body).await
    }

    /// Status and body of one request with these headers.
    async fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (u16, Bytes) {
        let connection = TcpStream::connect(&self.http).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        drop(sender);
        connection.await.unwrap().unwrap();
        (status, body)
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// The id of its cluster.
    async fn cluster(&self) -> String {
        self.json("/v1/status").await["cluster"].as_str().unwrap().to_owned()
    }

    async fn put(&self, name: &str, body: &str) -> u16 {
        self.request("PUT", &format!("/v1/functions/{name}"), body.to_owned()).await.0
    }

    /// Asks again and again until the answer at `path` is as expected.
    async fn wait_for(&self, path: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + sim::WAIT_TIMEOUT;
        let mut again = tokio::time::interval(Duration::from_millis(10));
        loop {
            again.tick().await;
            let seen = self.json(path).await;
            if is_expected(&seen) {
                return seen;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path} is still {seen}");
        }
    }
}
