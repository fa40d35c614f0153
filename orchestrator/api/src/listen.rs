//! Taking the streams of other parts: a listener as tonic wants it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::transport::{Server, server::Connected};

use crate::{Io, Listener, accept::Failures, connect::WINDOW_BYTES};

/// Streams on one connection: workers with many nodes share one stream, so a few are enough.
const MAX_STREAMS: u32 = 1024;
/// A peer that has sent no data for this long is pinged, so that a cut link is noticed. Its own pings do not count as
/// data, so a peer with nothing to say is pinged as well as pinging.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// A ping unanswered for this long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Connections at once of which nobody knows yet whether they are a peer's: a quarter of the least number of files that
/// these programs accept, so that whoever says nothing does not take them all. More wait to be accepted.
const UNPROVEN_CONNECTIONS: usize = 256;
/// A connection makes a request that is let in within this time, or is closed: a peer does so within some milliseconds.
/// Shorter than a peer waits for an answer, so that one that waits behind the silent ones is still there afterwards.
const PROOF_WITHIN: Duration = Duration::from_secs(2);

/// The connections of a listener, and the server settings that go with them.
pub struct Incoming;

impl Incoming {
    /// A stream of the listener's connections; failed accepts are logged and do not end it. A connection without a request
    /// that [`Token::require`](crate::Token::require) lets in ends after some seconds, and only so many are open at once.
    pub fn stream(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<PeerConnection>> + Send {
        let places = Arc::new(Semaphore::new(UNPROVEN_CONNECTIONS));
        let failures = Failures::of("the stream port");
        futures::stream::unfold((listener, places, failures), |(listener, places, mut failures)| async move {
            // It is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            let accepted = loop {
                match listener.accept().await {
                    Ok(accepted) => break accepted,
                    Err(error) => failures.note(&error).await,
                }
            };
            let (proof, deadline) = (Proof(Arc::new(Mutex::new(Some(place)))), Some(Box::pin(sleep(PROOF_WITHIN))));
            let connection = PeerConnection { io: accepted.io, peer: accepted.peer, proof, deadline };
            Some((Ok(connection), (listener, places, failures)))
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
    proof: Proof,
    /// When it is closed, unless it has proven by then that it is a peer's; `None` once it has.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// In a request's extensions: the connection on which it came.
#[derive(Clone)]
pub struct PeerInfo {
    /// The other end.
    pub address: SocketAddr,
    proof: Proof,
}

/// Whether a connection is a peer's. Holds its place among the others until that is known.
#[derive(Clone)]
struct Proof(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Proof {
    fn is_given(&self) -> bool {
        self.place().is_none()
    }

    /// Every change leaves it whole, so a panic elsewhere does not make it unusable.
    fn place(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerInfo {
    /// The connection is a peer's: one of its requests was let in.
    pub(crate) fn prove(&self) {
        self.proof.place().take();
    }
}

impl PeerConnection {
    /// An error once the time is over in which it had to prove that it is a peer's.
    fn poll_proof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(deadline) = &mut self.deadline else { return Ok(()) };
        if self.proof.is_given() {
            self.deadline = None;
        } else if deadline.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it made no request that was let in"));
        }
        Ok(())
    }
}

impl Drop for PeerConnection {
    /// Requests may outlive it, its place does not.
    fn drop(&mut self) {
        self.proof.place().take();
    }
}

impl Connected for PeerConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo { address: self.peer, proof: self.proof.clone() }
    }
}

impl AsyncRead for PeerConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_proof(cx)?;
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
