//! A stream that notes when it is written to, so that a request's time of sending is when its bytes go to the kernel
//! and not when a library accepted it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::replay::Replay;

/// Invocations accepted for a connection but not yet written. Bounded by the connection's streams.
#[derive(Debug, Default)]
pub(crate) struct UnstampedRequests(Mutex<Vec<usize>>);

impl UnstampedRequests {
    /// Notes an invocation that is about to be given to the connection.
    pub(crate) fn push(&self, index: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(index);
    }
}

/// A TCP stream that stamps accepted invocations as sent when it is next written to.
pub(crate) struct TimestampedStream {
    /// The stream.
    pub(crate) stream: TcpStream,
    /// The requests to stamp.
    pub(crate) accepted: Arc<UnstampedRequests>,
    /// Clock and ledger.
    pub(crate) replay: Arc<Replay>,
}

impl TimestampedStream {
    fn stamp(&self) {
        let mut accepted = self.accepted.0.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.is_empty() {
            return;
        }
        let now_ns = self.replay.clock.now_ns();
        for index in accepted.drain(..) {
            self.replay.ledger.sent(index, now_ns);
        }
    }
}

impl AsyncRead for TimestampedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TimestampedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stamp();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stamp();
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
