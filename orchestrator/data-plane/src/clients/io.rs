//! The byte stream of one client's connection. It detects the protocol, and records for the connection's watch what
//! HTTP does not show: bytes without a request, that nobody reads, and that the client reads nothing. Refusals by the
//! HTTP library are replaced by ours.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use model::Protocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Client, ClientSocket, refused, requests::Requests};
use crate::frames::Frames;

/// The start of every HTTP/2 connection (RFC 9113, section 3.4), and of no HTTP/1.1 request.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes read to detect the protocol: mostly a whole request, so that detection costs no read of its own.
const PREFACE_READ_BYTES: usize = 1024;

/// A client's byte stream.
pub(crate) struct ClientIo {
    socket: ClientSocket,
    /// Unwritten rest of the refusal that replaces the library's.
    refusal: Option<Bytes>,
    client: Arc<Client>,
    /// Bytes read to detect the protocol.
    ahead: BytesMut,
    /// Follows the frames of HTTP/2.
    frames: Option<Frames>,
    /// Follows the requests of HTTP/1.1.
    requests: Requests,
}

/// Traffic counters, mostly written and read by the task of the connection.
#[derive(Default)]
pub(super) struct Traffic {
    http2: AtomicBool,
    /// The last poll of the connection waits for input.
    reading: AtomicBool,
    /// Reads that returned bytes.
    reads: AtomicU64,
    /// Those up to the latest begin or end of a request.
    reads_with_requests: AtomicU64,
    /// HTTP/1.1 requests received to the last byte of their bodies.
    whole_requests: AtomicU64,
    /// Bytes written to the client.
    written: AtomicU64,
    /// The last write was blocked.
    blocked: AtomicBool,
}

impl ClientIo {
    pub(crate) fn new(socket: ClientSocket, client: Arc<Client>) -> Self {
        Self { socket, refusal: None, client, ahead: BytesMut::new(), frames: None, requests: Requests::default() }
    }

    fn socket(&mut self) -> Pin<&mut ClientSocket> {
        Pin::new(&mut self.socket)
    }

    /// Returns true if `bytes` are a refusal by the library, which is then replaced and counted.
    fn is_replaced(&mut self, bytes: &[u8]) -> bool {
        // The library writes a refusal of its own only while no request is open.
        // Every write passes here, so a comparison of its first bytes has to be all that a usual one costs.
        let may_be = self.refusal.is_none() && bytes.starts_with(b"HTTP/1.1 4") && self.client.is_idle();
        if may_be && let Some((cause, text)) = refused::instead_of(bytes) {
            self.client.plane.metrics.refused(cause);
            // The rest of the request may follow, and nobody reads it.
            self.client.upload_begins();
            self.refusal = Some(text);
        }
        self.refusal.is_some()
    }

    /// Writes the refusal in place of `length` bytes of the library's.
    fn poll_refuse(&mut self, length: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut remaining = self.refusal.take().unwrap_or_default();
        while remaining.has_remaining() {
            match self.socket().poll_write(cx, &remaining) {
                Poll::Ready(Ok(count @ 1..)) => remaining.advance(count),
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.refusal = Some(remaining);
                    return Poll::Pending;
                }
            }
        }
        // The library writes no more. If it did, the bytes would be discarded.
        self.refusal = Some(remaining);
        // The length of the library's bytes, not of ours: a shorter count would make it write the rest.
        Poll::Ready(Ok(length))
    }

    /// Reads until the protocol is known; `None` if the client closed before.
    pub(crate) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<Option<Protocol>> {
        loop {
            if self.ahead.starts_with(HTTP2_PREFACE) {
                self.client.traffic.http2.store(true, Ordering::Relaxed);
                self.frames = Some(Frames::new(HTTP2_PREFACE.len(), self.client.limits().http2_trailer_block()));
                return Poll::Ready(Some(Protocol::H2c));
            }
            // As long as the input is a prefix of the preface, it may become either protocol.
            if !HTTP2_PREFACE.starts_with(&self.ahead) {
                return Poll::Ready(Some(Protocol::Http1));
            }
            // On the stack, so that a connection that waits for its first request holds no buffer.
            let mut space = [const { MaybeUninit::uninit() }; PREFACE_READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match ready!(self.poll_socket(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.ahead.extend_from_slice(buffer.filled());
                }
                Ok(()) | Err(_) => return Poll::Ready(None),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        self.poll_socket(cx, buffer)
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = self.socket().poll_read(cx, buffer);
        if poll.is_pending() {
            // The runtime now wakes this task for input and for a close, so the client's leaving cannot go unnoticed.
            self.client.traffic.reading.store(true, Ordering::Relaxed);
        } else if buffer.filled().len() > before {
            self.client.traffic.reads.fetch_add(1, Ordering::Relaxed);
        }
        poll
    }

    fn wrote(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let traffic = &self.client.traffic;
        traffic.blocked.store(poll.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = &poll {
            traffic.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        poll
    }
}

impl Traffic {
    /// Attributes all bytes read so far to a request that begins or ends.
    pub(super) fn at_request(&self) {
        self.reads_with_requests.store(self.reads.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Returns true if bytes were read that belong to no request. HTTP/2 has frames that belong to none.
    pub(super) fn has_partial_head(&self) -> bool {
        !self.is_http2() && self.reads.load(Ordering::Relaxed) != self.reads_with_requests.load(Ordering::Relaxed)
    }

    /// Returns true if the connection waited for input since the last call.
    pub(super) fn take_reading(&self) -> bool {
        // The load comes first because it leaves the cache line shared where nothing has changed.
        self.reading.load(Ordering::Relaxed) && self.reading.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// HTTP/1.1 requests received to the last byte of their bodies.
    pub(super) fn whole_requests(&self) -> u64 {
        self.whole_requests.load(Ordering::Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// While the client reads nothing: the bytes written before.
    pub(super) fn blocked(&self) -> Option<u64> {
        self.blocked.load(Ordering::Relaxed).then(|| self.written())
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = self.poll_fill(cx, buffer);
        let Self { client, frames, requests, .. } = &mut *self;
        match frames {
            Some(frames) => frames.pass(&buffer.filled()[before..])?,
            None => {
                requests.pass(&buffer.filled()[before..], &client.dropped);
                client.traffic.whole_requests.store(requests.whole(), Ordering::Relaxed);
            }
        }
        poll
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_replaced(bytes) {
            let poll = self.poll_refuse(bytes.len(), cx);
            return self.wrote(poll);
        }
        let poll = self.socket().poll_write(cx, bytes);
        self.wrote(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = buffers.iter().find(|buffer| !buffer.is_empty())
            && self.is_replaced(first)
        {
            let poll = self.poll_refuse(first.len(), cx);
            return self.wrote(poll);
        }
        let poll = self.socket().poll_write_vectored(cx, buffers);
        self.wrote(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
