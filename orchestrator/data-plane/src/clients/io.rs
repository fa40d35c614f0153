//! The byte stream of one client's connection. It notes for the connection's watch what cannot be seen through HTTP:
//! that bytes came without a request, and that the client takes none.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use api::Io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Client;

/// Begins every HTTP/2 connection, and no HTTP/1.1 request.
const HTTP2_PREFACE: &[u8] = b"PRI ";

/// A client's bytes.
pub(crate) struct ClientIo {
    io: Io,
    client: Arc<Client>,
    /// How much of the preface has been read; `None` once it is known which protocol the client speaks.
    preface: Option<usize>,
}

/// What is noted. Written and read by the task of the connection, mostly.
#[derive(Default)]
pub(super) struct Traffic {
    http2: AtomicBool,
    /// Reads that brought something.
    reads: AtomicU64,
    /// Those up to the latest begin or end of a request.
    reads_with_requests: AtomicU64,
    /// Writes that took something.
    writes: AtomicU64,
    /// Whether the last write found no room.
    blocked: AtomicBool,
}

impl ClientIo {
    /// The bytes of `client`.
    pub(crate) fn new(io: Io, client: Arc<Client>) -> Self {
        Self { io, client, preface: Some(0) }
    }

    fn recognise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(seen) = self.preface else { return };
            self.preface = (HTTP2_PREFACE[seen] == *byte).then_some(seen + 1);
            if self.preface == Some(HTTP2_PREFACE.len()) {
                self.client.traffic.http2.store(true, Ordering::Relaxed);
                self.preface = None;
            }
        }
    }

    fn wrote<T>(&self, poll: Poll<io::Result<T>>, took: bool) -> Poll<io::Result<T>> {
        let traffic = &self.client.traffic;
        traffic.blocked.store(poll.is_pending(), Ordering::Relaxed);
        if took && poll.is_ready() {
            traffic.writes.fetch_add(1, Ordering::Relaxed);
        }
        poll
    }
}

impl Traffic {
    /// A request begins or ends: what was read so far belongs to it.
    pub(super) fn at_request(&self) {
        self.reads_with_requests.store(self.reads.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether something was read that belongs to no request. HTTP/2 has frames that belong to none.
    pub(super) fn has_partial_head(&self) -> bool {
        !self.is_http2() && self.reads.load(Ordering::Relaxed) != self.reads_with_requests.load(Ordering::Relaxed)
    }

    /// Whether the client speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// While the client takes nothing of what is to be sent: how many writes it took before.
    pub(super) fn blocked(&self) -> Option<u64> {
        self.blocked.load(Ordering::Relaxed).then(|| self.writes.load(Ordering::Relaxed))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.io).poll_read(cx, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.client.traffic.reads.fetch_add(1, Ordering::Relaxed);
            if self.preface.is_some() {
                self.recognise(read);
            }
        }
        poll
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(poll, true)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        self.wrote(poll, true)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
