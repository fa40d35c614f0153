//! A sandbox whose invocations a test drives individually: they continue whatever their clients do, as in a blocking
//! program.

use std::net::SocketAddr;

use sim::WAIT_TIMEOUT;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Its listener.
pub(crate) struct Blocking(TcpListener);

/// One invocation.
pub(crate) struct Call(TcpStream);

impl Blocking {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Accepts the next connection.
    pub(crate) async fn accept(&self) -> TcpStream {
        timeout(WAIT_TIMEOUT, self.0.accept()).await.expect("the data plane connects in time").unwrap().0
    }

    /// Accepts the next invocation over HTTP/1.1, without a body.
    pub(crate) async fn call(&self) -> Call {
        let mut stream = self.accept().await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        Call(stream)
    }
}

impl Call {
    /// An invocation whose request was read.
    pub(crate) fn on(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Waits until the data plane has closed its side.
    pub(crate) async fn unwanted(&mut self) {
        assert_eq!(self.0.read(&mut [0; 16]).await.unwrap(), 0, "the request has no body");
    }

    /// Responds and closes.
    pub(crate) async fn response(mut self) {
        self.0.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.unwrap();
    }

    /// Writes `bytes` and continues.
    pub(crate) async fn begin(mut self, bytes: &[u8]) -> Self {
        self.0.write_all(bytes).await.unwrap();
        self
    }

    /// Writes `bytes` and closes after the data plane does: if it closed earlier, the close could overtake them.
    pub(crate) fn respond_with(mut self, bytes: Vec<u8>) {
        tokio::spawn(async move {
            self.0.write_all(&bytes).await.unwrap();
            let _ = timeout(WAIT_TIMEOUT, self.0.read_to_end(&mut Vec::new())).await;
        });
    }
}
