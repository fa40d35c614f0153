//! A client's socket, shared by the HTTP library, which reads and writes, and the connection's watch. The library reads
//! a body only as far as it is polled for it, so it cannot notice that a client has left before its request was read:
//! the watch asks the socket.

use std::{
    io::{self, Read},
    mem::{MaybeUninit, take},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use service::Io;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Consecutive polls of a socket that is ready each time.
const MAX_READY_POLLS: u32 = 4;

/// Lower bound of a socket's receive buffer: while fewer bytes are unread, the client can still send more, and its
/// close.
const FULL_BUFFER_BYTES: usize = 32 * 1024;

/// The interim response 100 (RFC 9110, section 15.2.1), which every HTTP/1.1 client must accept at any time.
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Presence of a client, as seen on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The client may send more.
    Here,
    /// The client closed its write side: it waits for the response, or has left.
    HalfClosed,
    /// The connection is reset.
    Gone,
}

/// One client's socket. The lock is contended only if two threads meet at the end of a connection.
#[derive(Clone)]
pub(crate) struct ClientSocket(Arc<Mutex<State>>);

struct State {
    io: Io,
    /// Unread bytes may be there that the runtime does not know of any more.
    hides_bytes: bool,
}

impl ClientSocket {
    pub(crate) fn new(io: Io) -> Self {
        Self(Arc::new(Mutex::new(State { io, hides_bytes: false })))
    }

    /// Returns true if presence can be probed: not in a simulated network.
    pub(crate) fn can_probe_presence(&self) -> bool {
        (*self.lock().io).socket().is_some()
    }

    /// The client's presence, even behind unread bytes. The task is woken when a client that is here closes its side or
    /// sends more; not for events after a close.
    pub(super) fn poll_presence(&self, cx: &mut Context<'_>) -> Presence {
        let State { io, hides_bytes } = &mut *self.lock();
        let Some(socket) = (**io).socket() else { return Presence::Here };
        for _ in 0..MAX_READY_POLLS {
            match socket.poll_read_ready(cx) {
                Poll::Pending => return Presence::Here,
                Poll::Ready(Err(_)) => return Presence::Gone,
                Poll::Ready(Ok(())) => {}
            }
            match presence(socket) {
                Presence::Here => {}
                changed => return changed,
            }
            // Input is there. The runtime wakes a task for further events only if it believes that this input was read.
            *hides_bytes = true;
            let _: io::Result<()> = socket.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
        }
        // It is still ready after several polls: let other tasks run before the next ones.
        cx.waker().wake_by_ref();
        Presence::Here
    }

    /// Returns true if unread bytes were there at the last check.
    pub(super) fn hides_bytes(&self) -> bool {
        self.lock().hides_bytes
    }

    /// Returns true if so much is unread that the client may be unable to send more.
    pub(super) fn is_filled(&self) -> bool {
        // Allocated here because it is rare: every 500 ms at most, and only for a client whose body nobody reads.
        let mut space = vec![MaybeUninit::uninit(); FULL_BUFFER_BYTES];
        let state = self.lock();
        let peeked = (*state.io).socket().map(|socket| SockRef::from(socket).peek(&mut space));
        matches!(peeked, Some(Ok(FULL_BUFFER_BYTES)))
    }

    /// Sends an interim response. Returns false if that is impossible. Nothing of a response may have been written.
    pub(super) fn send_interim(&self) -> bool {
        let state = self.lock();
        let sent = (*state.io).socket().map(|socket| socket.try_write(INTERIM));
        // A part of it would be read as the beginning of the response.
        matches!(sent, Some(Ok(count)) if count == INTERIM.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Presence as far as the runtime knows.
fn presence(socket: &TcpStream) -> Presence {
    // A no-op waker, because only the readiness known so far is of interest: no system call, and no wake-up is
    // registered.
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
    let ready = pin!(socket.ready(interest)).poll(&mut Context::from_waker(Waker::noop()));
    match ready {
        Poll::Pending => Presence::Here,
        Poll::Ready(Err(_)) => Presence::Gone,
        // Nothing here has shut down the write side yet, so it is closed only by a reset (EPOLLHUP or EPOLLERR).
        Poll::Ready(Ok(ready)) if ready.is_write_closed() || ready.is_error() => Presence::Gone,
        Poll::Ready(Ok(ready)) if ready.is_read_closed() => Presence::HalfClosed,
        Poll::Ready(Ok(_)) => Presence::Here,
    }
}

impl State {
    /// Reads hidden bytes; `None` if there are none.
    fn read_hidden(&mut self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if !take(&mut self.hides_bytes) {
            return None;
        }
        let socket = (*self.io).socket()?;
        let space = buffer.initialize_unfilled();
        match (&*SockRef::from(socket)).read(space) {
            Ok(count) => {
                // If they fill the buffer there may be more.
                self.hides_bytes = count > 0 && count == space.len();
                buffer.advance(count);
                Some(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        match state.read_hidden(buffer) {
            Some(read) => Poll::Ready(read),
            None => Pin::new(&mut state.io).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.lock().io).poll_write_vectored(cx, buffers)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().io.is_write_vectored()
    }
}
