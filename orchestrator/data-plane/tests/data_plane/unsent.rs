//! Requests that a connection returns because it ended before a byte of them was sent.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use api::wire::EndpointState;
use futures::future::{BoxFuture, ready};
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use service::{Io, Listener, Network, OsNetwork};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    client::{get, send},
    sandbox::Sandbox,
    world::{World, active, delta, function},
};

const EARLY_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Address of the sandbox whose connection ends.
const DYING: &str = "127.0.0.1:1";

/// The first connection to [`DYING`] responds once and ends after some further reads; there is no second one.
struct Dying {
    /// Reads that find nothing before one finds the end.
    silent_reads: usize,
    connections: AtomicUsize,
}

struct DyingIo {
    silent_reads: usize,
    asked: bool,
    responded: bool,
    reader: Option<Waker>,
}

impl Network for Dying {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        OsNetwork.bind(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        OsNetwork.connect(address)
    }

    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        if address != DYING.parse().unwrap() {
            return OsNetwork.connect_to(address);
        }
        let first = self.connections.fetch_add(1, Ordering::SeqCst) == 0;
        let io = DyingIo { silent_reads: self.silent_reads, asked: false, responded: false, reader: None };
        Box::pin(ready(if first { Ok(Box::new(io) as Io) } else { Err(io::ErrorKind::ConnectionRefused.into()) }))
    }
}

impl AsyncRead for DyingIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !self.responded {
            self.responded = true;
            buffer.put_slice(EARLY_RESPONSE);
            return Poll::Ready(Ok(()));
        }
        let Some(rest) = self.silent_reads.checked_sub(1) else { return Poll::Ready(Ok(())) };
        self.silent_reads = rest;
        Poll::Pending
    }
}

impl AsyncWrite for DyingIo {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.responded {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_request_returned_unsent_is_retried_whatever_its_method() {
    // The library decides how often it reads, so the end comes at each of its reads in turn.
    for silent_reads in 0..6 {
        let network = Arc::new(Dying { silent_reads, connections: AtomicUsize::new(0) });
        let mut world = World::on(network.clone(), |_| {}).await;
        let mut session = world.accept_stream(vec![function()]).await;
        session.delta(delta(1, DYING.parse().unwrap(), 1, EndpointState::Active, 1));
        session.ack(1, |ack| ack.slots == 1).await;
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
        // Not idempotent, of unknown length, and too long to be retained for a retry.
        let pieces = futures::stream::iter((0..32).map(|_| Ok::<_, io::Error>(Frame::data(vec![b'x'; 8192].into()))));
        let post = Request::post("/echo").header("host", "f").body(StreamBody::new(pieces)).unwrap();
        let data_plane = world.data_plane;
        let invocation = tokio::spawn(async move { send(data_plane, post).await.unwrap() });
        session.failure(1).await;
        let sandbox = Sandbox::start().await;
        session.delta(active(2, &sandbox, 1));
        let response = invocation.await.unwrap();
        assert_eq!(
            (response.status.as_u16(), response.body.len()),
            (200, 32 * 8192),
            "{silent_reads}: {:?}",
            response.headers
        );
        assert_eq!(network.connections.load(Ordering::SeqCst), 2);
    }
}
