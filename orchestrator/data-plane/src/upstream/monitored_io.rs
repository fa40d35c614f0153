//! The byte stream of one connection to a sandbox, with two handles on it: it can be broken off from outside, and it can
//! be got back from whoever reads it, to wait for its end.

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

use api::Io;
use futures::task::AtomicWaker;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::frames::Frames;

/// A connection's bytes.
pub(crate) struct MonitoredIo {
    io: Option<Io>,
    /// Watches the frames of HTTP/2.
    frames: Option<Frames>,
    handle: Arc<IoMonitor>,
}

/// What others may do to a connection.
#[derive(Default)]
pub(crate) struct IoMonitor {
    broken: AtomicBool,
    /// Whether its user has to leave it, for [`Wire::resume`].
    detached: AtomicBool,
    /// Whether a byte has come in since the mark was cleared.
    received: AtomicBool,
    /// Whether a byte has gone out since then.
    sent: AtomicBool,
    /// Whether the sandbox has stopped reading: a write after the first failed.
    stopped_reading: AtomicBool,
    /// Whether a read that finds nothing asks the operating system as well.
    peek_when_empty: AtomicBool,
    /// The task that waits for bytes.
    reader: AtomicWaker,
    reclaim: Mutex<Reclaim>,
}

/// What becomes of a stream when its user drops it.
#[derive(Default)]
enum Reclaim {
    /// It is closed.
    #[default]
    NotRequested,
    /// Somebody gets it.
    Requested(oneshot::Sender<Io>),
    /// That has happened.
    Gone,
}

impl MonitoredIo {
    /// A connection around `io`, and its handle. `frames` watches what comes in, if it is HTTP/2.
    pub(crate) fn new(io: Io, frames: Option<Frames>) -> (Self, Arc<IoMonitor>) {
        let handle = Arc::new(IoMonitor::default());
        (Self { io: Some(io), frames, handle: handle.clone() }, handle)
    }

    /// A stream that was got back, still under its handle.
    pub(crate) fn resume(io: Io, handle: Arc<IoMonitor>) -> Self {
        handle.detached.store(false, Ordering::Relaxed);
        Self { io: Some(io), frames: None, handle }
    }

    /// Remembers what a write did. A sandbox may answer and close its side before it has read all of a request; the HTTP
    /// library would take the failed write for the outcome, with the answer unread. So once something was sent, a write
    /// that fails waits instead: what there is to read, the end at least, wakes the task.
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
    /// Breaks the connection off: its user sees an error at once.
    pub(crate) fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Its user sees an error at once and lets go of the stream, which stays open for the one that reclaims it.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Forgets the bytes heard and sent so far.
    pub(crate) fn begin(&self) {
        self.received.store(false, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
        self.stopped_reading.store(false, Ordering::Relaxed);
    }

    /// Whether the sandbox stopped reading in the midst of a request since [`Self::begin`].
    pub(crate) fn stopped_reading(&self) -> bool {
        self.stopped_reading.load(Ordering::Relaxed)
    }

    /// Whether a byte went out since [`Self::begin`].
    pub(crate) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether a byte came in since [`Self::begin`].
    pub(crate) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// From now on a read that finds nothing asks the operating system as well, or no longer.
    pub(crate) fn peek_when_empty(&self, peeks: bool) {
        self.peek_when_empty.store(peeks, Ordering::Relaxed);
    }

    /// The stream, when its user drops it; an error when it has done so already, or the stream was broken off.
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
            // It may have been broken off between the look and the registration.
            let io = self.io()?;
            if peeks && is_over(&io) {
                // Nothing read is the end of the stream.
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

/// Whether something has come on a connection on which nothing should, the end mostly.
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
            // Who asked for it may have stopped waiting.
            let _ = reclaim.send(io);
        }
    }
}
