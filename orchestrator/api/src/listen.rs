//! Taking the streams of other parts: a listener as tonic wants it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Server, server::Connected};

use crate::{Io, Listener, connect::WINDOW_BYTES};

/// Streams on one connection: workers with many nodes share one stream, so a few are enough.
const MAX_STREAMS: u32 = 1024;
/// A peer that has sent no data for this long is pinged, so that a cut link is noticed. Its own pings do not count as
/// data, so a peer with nothing to say is pinged as well as pinging.
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);
/// A ping unanswered for this long ends the connection.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// The connections of a listener, and the server settings that go with them.
pub struct Incoming;

impl Incoming {
    /// A stream of the listener's connections; failed accepts are passed on and do not end it.
    pub fn stream(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<PeerConnection>> + Send {
        futures::stream::unfold(listener, |listener| async {
            let next = listener.accept().await;
            let next = next.map(|accepted| PeerConnection { io: accepted.io, peer: accepted.peer });
            Some((next, listener))
        })
    }

    /// A tonic server with the windows, pings and limits that all parts expect.
    #[must_use]
    pub fn server() -> Server {
        Server::builder()
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
    }
}

/// A connection from another part.
pub struct PeerConnection {
    io: Io,
    peer: SocketAddr,
}

impl Connected for PeerConnection {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for PeerConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
