//! The byte stream of one connection to a sandbox, with a shared monitor: it records traffic, aborts the connection
//! from outside, and gets the stream back from the HTTP library for the lingering close.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use service::Io;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::frames::Frames;

/// The byte stream of a connection.
pub(crate) struct MonitoredIo {
    io: Option<Io>,
    /// Follows the frames of HTTP/2.
    frames: Option<Frames>,
    handle: Arc<IoMonitor>,
}

/// The shared state of a connection: traffic flags, and requests to its user.
#[derive(Default)]
pub(crate) struct IoMonitor {
    broken: AtomicBool,
    /// Its user must release the stream, which [`MonitoredIo::resume`] takes over.
    detached: AtomicBool,
    /// A byte was received since [`Self::begin`].
    received: AtomicBool,
    /// A byte was sent since [`Self::begin`].
    sent: AtomicBool,
    /// The sandbox stopped reading: a write after the first one failed.
    stopped_reading: AtomicBool,
    /// A read that finds nothing also peeks at the socket.
    peek_when_empty: AtomicBool,
    /// The task that waits for input.
    reader: AtomicWaker,
    reclaim: Mutex<Reclaim>,
}

/// The fate of the stream when its user drops it.
#[derive(Default)]
enum Reclaim {
    /// It is closed.
    #[default]
    NotRequested,
    /// It is sent to the one who reclaims it.
    Requested(oneshot::Sender<Io>),
    /// It was dropped already.
    Gone,
}

impl MonitoredIo {
    /// Wraps `io` and returns its monitor. `frames` follows the input of HTTP/2.
    pub(crate) fn new(io: Io, frames: Option<Frames>) -> (Self, Arc<IoMonitor>) {
        let handle = Arc::new(IoMonitor::default());
        (Self { io: Some(io), frames, handle: handle.clone() }, handle)
    }

    /// Wraps a reclaimed stream under its existing monitor.
    pub(crate) fn resume(io: Io, handle: Arc<IoMonitor>) -> Self {
        // Otherwise the lingering close, too, would get the error by which the library had to release the stream.
        handle.detached.store(false, Ordering::Relaxed);
        Self { io: Some(io), frames: None, handle }
    }

    /// Records the result of a write. A sandbox may respond and close its side before it has read the whole request,
    /// and the HTTP library would take the failed write for the outcome without reading the response. So once something
    /// was sent, a failing write stays pending: input, at least the end of stream, wakes the task.
    fn wrote(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match poll {
            Poll::Ready(Ok(1..)) => self.handle.sent.store(true, Ordering::Relaxed),
            Poll::Ready(Err(_)) if self.handle.sent() => {
                self.handle.stopped_reading.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
            _ => {}
        }
        poll
    }

    fn io(&mut self) -> io::Result<Pin<&mut Io>> {
        if self.handle.broken.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the sandbox is gone"));
        }
        if self.handle.detached.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is wanted back"));
        }
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl IoMonitor {
    /// Aborts the connection: its user gets an error at once.
    pub(crate) fn break_off(&self) {
        // Set before the wake, so that the task that wakes up sees it.
        self.broken.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Detaches the user, which gets an error at once and drops the stream; it stays open for the reclaimer.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Resets the traffic flags for a new request.
    pub(crate) fn begin(&self) {
        self.received.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
        self.stopped_reading.store(false, Ordering::Relaxed);
    }

    /// Returns true if the sandbox stopped reading within a request since [`Self::begin`].
    pub(crate) fn stopped_reading(&self) -> bool {
        self.stopped_reading.load(Ordering::Relaxed)
    }

    /// Returns true if a byte was sent since [`Self::begin`].
    pub(crate) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns true if a byte was received since [`Self::begin`].
    pub(crate) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Sets whether a read that finds nothing also peeks at the socket.
    pub(crate) fn peek_when_empty(&self, peeks: bool) {
        self.peek_when_empty.store(peeks, Ordering::Relaxed);
    }

    /// Receives the stream once its user drops it; an error if it was dropped before or aborted.
    pub(crate) fn reclaim(&self) -> oneshot::Receiver<Io> {
        let (sender, receiver) = oneshot::channel();
        let mut reclaim = self.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*reclaim, Reclaim::Gone) {
            *reclaim = Reclaim::Requested(sender);
        }
        receiver
    }
}

impl AsyncRead for MonitoredIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let peeks = self.handle.peek_when_empty.load(Ordering::Relaxed);
        let poll = self.io()?.poll_read(cx, buffer);
        if poll.is_pending() {
            self.handle.reader.register(cx.waker());
            // It may have been aborted between the poll and the registration.
            let io = self.io()?;
            if peeks && is_over(&io) {
                // An empty read means end of stream.
                return Poll::Ready(Ok(()));
            }
        } else if buffer.filled().len() > before {
            self.handle.received.store(true, Ordering::Relaxed);
            if let Some(frames) = &mut self.frames {
                frames.pass(&buffer.filled()[before..])?;
            }
        }
        poll
    }
}

/// Returns true if input is there on a connection that should have none: mostly the end of stream.
fn is_over(io: &Io) -> bool {
    let Some(socket) = (**io).socket() else { return false };
    match SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

impl AsyncWrite for MonitoredIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = self.io()?.poll_write(cx, bytes);
        self.wrote(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = self.io()?.poll_write_vectored(cx, buffers);
        self.wrote(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(|io| io.is_write_vectored())
    }
}

impl Drop for MonitoredIo {
    fn drop(&mut self) {
        let mut reclaim = self.handle.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
        let reclaim = std::mem::replace(&mut *reclaim, Reclaim::Gone);
        if let (Reclaim::Requested(reclaim), Some(io)) = (reclaim, self.io.take()) {
            // The reclaimer may have stopped waiting.
            let _ = reclaim.send(io);
        }
    }
}
