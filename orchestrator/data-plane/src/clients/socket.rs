//! A client's socket, shared by the HTTP library, which reads and writes, and whoever serves the connection. The library
//! reads a body only as far as somebody wants it, so it cannot tell that a client has left before its request was read:
//! that is asked here.

use std::{
    io::{self, Read},
    mem::take,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use api::Io;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Times that a socket which is ready again each time it is asked is asked at once.
const MAX_ASKED_AT_ONCE: u32 = 4;

/// One client's socket. The lock is its task's own except where two threads meet at the end of a connection.
#[derive(Clone)]
pub(crate) struct ClientSocket(Arc<Mutex<State>>);

struct State {
    io: Io,
    /// Whether bytes may be there that the runtime does not know of any more.
    hides_bytes: bool,
}

impl ClientSocket {
    /// Shares `io`.
    pub(crate) fn new(io: Io) -> Self {
        Self(Arc::new(Mutex::new(State { io, hides_bytes: false })))
    }

    /// Whether the client has ended its side, also behind bytes that nobody has read. If not, the task is woken when it
    /// does so or sends more. Never in a simulated network.
    pub(crate) fn poll_has_left(&self, cx: &mut Context<'_>) -> bool {
        let State { io, hides_bytes } = &mut *self.lock();
        let Some(socket) = (**io).socket() else { return false };
        for _ in 0..MAX_ASKED_AT_ONCE {
            match socket.poll_read_ready(cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(())) if is_closed(socket) => return true,
                Poll::Ready(Ok(())) => {}
            }
            // Bytes are there. The runtime wakes a task for what follows them only if it believes that they were read.
            *hides_bytes = true;
            let _: io::Result<()> = socket.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
        }
        cx.waker().wake_by_ref();
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the peer has closed or reset it, as far as the runtime has heard.
fn is_closed(socket: &TcpStream) -> bool {
    let ready = pin!(socket.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

impl State {
    /// Reads bytes that were hidden; `None` when there are none.
    fn read_hidden(&mut self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if !take(&mut self.hides_bytes) {
            return None;
        }
        let socket = (*self.io).socket()?;
        let room = buffer.initialize_unfilled();
        match (&*SockRef::from(socket)).read(room) {
            Ok(count) => {
                // Where they fill the room there may be more.
                self.hides_bytes = count > 0 && count == room.len();
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
