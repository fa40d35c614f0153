//! Incoming connections of data planes and workers, in the form that tonic's server takes them.
//!
//! A connection that does not authenticate itself soon, or whose peer stops reading, is closed.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use service::{AcceptFailures, Io, Listener};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::{Server, server::Connected};

use crate::{
    connect::WINDOW_BYTES,
    unauthenticated::{Permit, UnauthenticatedConnections},
};

/// Maximum number of streams per connection. A peer needs one, also a worker with many nodes; the bound is generous.
const MAX_STREAMS: u32 = 1024;
/// Time without data after which a peer is pinged, so that a broken link is detected. The peer's own pings do not count
/// as data, so both ends ping on an idle connection.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Time without an acknowledgement of a ping after which the connection ends.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection without an authenticated request is closed after this time. A peer needs some milliseconds.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection whose peer accepts no byte for this long is closed. Pings cannot detect such a peer, because they queue
/// behind the unsent bytes; the time equals [`PING_INTERVAL`] plus [`PING_TIMEOUT`].
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Constructors for the incoming connections of a listener and for the server that serves them.
pub struct Incoming;

impl Incoming {
    /// Returns the stream of the listener's connections. Failed accepts are logged and do not end it. A connection
    /// without a request that [`Token::require`](crate::Token::require) accepts ends after two seconds, or earlier in
    /// favour of a newer one if there are many.
    pub fn stream(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<PeerConnection>> + Send {
        let unauthenticated = Arc::<UnauthenticatedConnections>::default();
        let failures = AcceptFailures::new("the stream port");
        futures::stream::unfold(
            (listener, unauthenticated, failures),
            |(listener, unauthenticated, mut failures)| async move {
                let accepted = loop {
                    match listener.accept().await {
                        Ok(accepted) => break accepted,
                        Err(error) => failures.log_and_back_off(&error).await,
                    }
                };
                // This may wait; further connections wait in the listener's backlog meanwhile.
                let permit = unauthenticated.admit(accepted.peer.ip()).await;
                let connection = PeerConnection::new(accepted.io, accepted.peer, permit);
                Some((Ok(connection), (listener, unauthenticated, failures)))
            },
        )
    }

    /// Returns a tonic server with the flow-control windows, pings and limits of the protocol.
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

/// An incoming connection of a data plane or worker.
pub struct PeerConnection {
    io: Io,
    peer: SocketAddr,
    authentication: Authentication,
    state: ConnectionState,
    /// Timer that runs while the peer accepts no bytes.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// Authentication state of a connection.
enum ConnectionState {
    /// No request was accepted yet. The future resolves to the reason when the connection is to be closed.
    Unauthenticated(Pin<Box<dyn Future<Output = &'static str> + Send>>),
    /// A request was accepted.
    Authenticated,
    /// It is to be closed.
    Closing,
}

/// Extension of a request: the connection that carries it.
#[derive(Clone)]
pub struct PeerInfo {
    /// The peer's address.
    pub address: SocketAddr,
    authentication: Authentication,
}

/// Progress of a connection's authentication: holds the permit of an unauthenticated connection, and nothing
/// afterwards.
#[derive(Clone)]
struct Authentication(Arc<Mutex<Option<Permit>>>);

impl Authentication {
    fn is_done(&self) -> bool {
        self.permit().is_none()
    }

    /// Ignores poisoning: the permit is replaced as a whole.
    fn permit(&self) -> MutexGuard<'_, Option<Permit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerInfo {
    /// Marks the connection as authenticated, after one of its requests was accepted.
    pub(crate) fn set_authenticated(&self) {
        self.authentication.permit().take();
    }
}

impl PeerConnection {
    fn new(io: Io, peer: SocketAddr, permit: Permit) -> Self {
        let evicted = permit.evicted.clone();
        let deadline = Box::pin(async move {
            tokio::select! {
                biased;
                () = sleep(AUTHENTICATION_TIMEOUT) => "no authenticated request within the time-out",
                () = evicted.cancelled() => "no authenticated request yet, and newer connections wait",
            }
        });
        let authentication = Authentication(Arc::new(Mutex::new(Some(permit))));
        Self { io, peer, authentication, state: ConnectionState::Unauthenticated(deadline), stalled: None }
    }

    /// Returns an error once the connection is to be closed because it has not authenticated itself. Every operation
    /// polls this, because HTTP/2 does not read while it cannot write.
    fn poll_authentication(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &mut self.state {
            ConnectionState::Authenticated => return Ok(()),
            ConnectionState::Unauthenticated(_) if self.authentication.is_done() => {
                self.state = ConnectionState::Authenticated;
                return Ok(());
            }
            ConnectionState::Unauthenticated(deadline) => {
                let Poll::Ready(reason) = deadline.as_mut().poll(cx) else { return Ok(()) };
                tracing::debug!(peer = %self.peer, reason, "closing a connection to the stream port");
                self.state = ConnectionState::Closing;
                self.discard_unsent();
            }
            ConnectionState::Closing => {}
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no authenticated request within the time-out"))
    }

    /// Passes on the result of writing `bytes`, or an error if the peer has accepted no byte for [`WRITE_TIMEOUT`].
    fn check_progress(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        if let Some(stalled) = &mut self.stalled {
            ready!(stalled.as_mut().poll(cx));
        }
        if let Some(count) = self.send_directly(bytes) {
            self.stalled = None;
            return Poll::Ready(Ok(count));
        }
        if self.stalled.is_some() {
            self.discard_unsent();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")));
        }
        let stalled = self.stalled.insert(Box::pin(sleep(WRITE_TIMEOUT)));
        // Registers this task with the new timer.
        let _ = stalled.as_mut().poll(cx);
        Poll::Pending
    }

    /// Writes to the socket without waiting for readiness; `None` if its buffer is full. Linux reports a socket as
    /// writable only once a third of its buffer is free, which takes longer than the time-out for megabytes on a slow
    /// link. A direct write succeeds with any free space, so it tells whether the peer has accepted bytes since the
    /// buffer was full.
    fn send_directly(&self, bytes: &[u8]) -> Option<usize> {
        let socket = self.io.as_ref().socket()?;
        SockRef::from(socket).send(bytes).ok().filter(|&count| count > 0)
    }

    /// Makes the operating system discard unsent bytes when the connection is closed. Otherwise it would keep megabytes
    /// for minutes for a peer that does not read.
    fn discard_unsent(&self) {
        if let Some(socket) = self.io.as_ref().socket() {
            // If the option cannot be set, the system's own time-outs apply.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Drop for PeerConnection {
    /// Releases the permit here, because requests hold clones of the authentication and may outlive the connection.
    fn drop(&mut self) {
        self.authentication.permit().take();
    }
}

impl Connected for PeerConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo { address: self.peer, authentication: self.authentication.clone() }
    }
}

impl AsyncRead for PeerConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_authentication(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_authentication(cx)?;
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check_progress(cx, bytes, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_authentication(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Needs no check: a shutdown does not wait for the peer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_authentication(cx)?;
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        // One buffer is enough to find out whether there is space.
        let first = buffers.iter().find(|buffer| !buffer.is_empty());
        self.check_progress(cx, first.map_or(&[], |first| first), wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
