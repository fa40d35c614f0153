//! Taking the streams of other parts: a listener as tonic wants it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::{Server, server::Connected};

use crate::{
    Io, Listener,
    accept::Failures,
    connect::WINDOW_BYTES,
    unproven::{Place, Unproven},
};

/// Streams on one connection: workers with many nodes share one stream, so a few are enough.
const MAX_STREAMS: u32 = 1024;
/// A peer that has sent no data for this long is pinged, so that a cut link is noticed. Its own pings do not count as
/// data, so a peer with nothing to say is pinged as well as pinging.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// A ping unanswered for this long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection makes a request that is let in within this time, or is closed: a peer does so within some milliseconds.
const PROOF_WITHIN: Duration = Duration::from_secs(2);
/// A connection whose peer takes none of the bytes that are there for it for this long ends: as long as one whose peer
/// stands still and does not answer a ping, which is not noticed while nothing can be sent.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections of a listener, and the server settings that go with them.
pub struct Incoming;

impl Incoming {
    /// A stream of the listener's connections; failed accepts are logged and do not end it. A connection without a request
    /// that [`Token::require`](crate::Token::require) lets in ends after some seconds, or in favour of another one when
    /// there are many.
    pub fn stream(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<PeerConnection>> + Send {
        let unproven = Arc::<Unproven>::default();
        let failures = Failures::of("the stream port");
        futures::stream::unfold((listener, unproven, failures), |(listener, unproven, mut failures)| async move {
            let accepted = loop {
                match listener.accept().await {
                    Ok(accepted) => break accepted,
                    Err(error) => failures.note(&error).await,
                }
            };
            let place = unproven.admit(accepted.peer.ip()).await;
            let connection = PeerConnection::new(accepted.io, accepted.peer, place);
            Some((Ok(connection), (listener, unproven, failures)))
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
    standing: Standing,
    /// Since it had no room for bytes that were there for it.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What is known of a connection.
enum Standing {
    /// Nothing yet. Done with the reason when it is to be closed.
    Unproven(Pin<Box<dyn Future<Output = &'static str> + Send>>),
    /// It is a peer's.
    Peer,
    /// It is to be closed.
    Over,
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
struct Proof(Arc<Mutex<Option<Place>>>);

impl Proof {
    fn is_given(&self) -> bool {
        self.place().is_none()
    }

    /// Every change leaves it whole, so a panic elsewhere does not make it unusable.
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
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
    fn new(io: Io, peer: SocketAddr, place: Place) -> Self {
        let taken = place.taken.clone();
        let over = Box::pin(async move {
            tokio::select! {
                biased;
                () = sleep(PROOF_WITHIN) => "it made no request that was let in",
                () = taken.cancelled() => "it made no request that was let in, and others wait",
            }
        });
        let proof = Proof(Arc::new(Mutex::new(Some(place))));
        Self { io, peer, proof, standing: Standing::Unproven(over), stalled: None }
    }

    /// An error once it is to be closed because it has not proven that it is a peer's. To be asked whatever is done with
    /// it: HTTP/2 does not read while it cannot write.
    fn poll_proof(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &mut self.standing {
            Standing::Peer => return Ok(()),
            Standing::Unproven(_) if self.proof.is_given() => {
                self.standing = Standing::Peer;
                return Ok(());
            }
            Standing::Unproven(over) => {
                let Poll::Ready(reason) = over.as_mut().poll(cx) else { return Ok(()) };
                tracing::debug!(peer = %self.peer, reason, "a connection to the stream port is closed");
                self.standing = Standing::Over;
                self.discard_unsent();
            }
            Standing::Over => {}
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "it made no request that was let in"))
    }

    /// What a write of `bytes` came to, but an error where the peer has taken nothing for too long.
    fn poll_stalled(
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
        if let Some(count) = self.send_unasked(bytes) {
            self.stalled = None;
            return Poll::Ready(Ok(count));
        }
        if self.stalled.is_some() {
            self.discard_unsent();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "it takes nothing")));
        }
        let stalled = self.stalled.insert(Box::pin(sleep(WRITE_TIMEOUT)));
        // So that it wakes this task.
        let _ = stalled.as_mut().poll(cx);
        Poll::Pending
    }

    /// Writes what there is room for; `None` where there is none. The system says that a socket is writable when a third of
    /// its buffer is free, which of some megabytes on a slow link takes longer than any time-out. But it takes bytes as
    /// long as there is any room: so once it took none, there is room only when the peer has taken some.
    fn send_unasked(&self, bytes: &[u8]) -> Option<usize> {
        let socket = self.io.as_ref().socket()?;
        SockRef::from(socket).send(bytes).ok().filter(|&count| count > 0)
    }

    /// The operating system forgets what it has not sent when the connection is closed. It would keep megabytes for
    /// minutes for a peer that does not take them.
    fn discard_unsent(&self) {
        if let Some(socket) = self.io.as_ref().socket() {
            // Where it cannot be set, the system's own bounds remain.
            let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
        }
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
        self.poll_proof(cx)?;
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.poll_stalled(cx, bytes, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_proof(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// May go on when it is to be closed, since it waits for nobody.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_proof(cx)?;
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        let first = buffers.iter().find(|buffer| !buffer.is_empty());
        self.poll_stalled(cx, first.map_or(&[], |first| first), wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
