//! Probes on connections: of data planes to workers, and of sandboxes. Components do not know of them, so a probe
//! observes what happens and not what a component reports.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use super::{
    event::{CallId, Event},
    event_log::EventLog,
    host::Host,
};

/// An observer of one connection.
pub(crate) trait Probe: Send + Unpin + 'static {
    /// `bytes` were read.
    fn read(&mut self, _bytes: &[u8]) {}

    /// Bytes were written.
    fn wrote(&mut self) {}
}

/// A connection under observation.
pub(crate) struct Probed<T> {
    stream: TcpStream,
    probe: T,
}

impl<T> Probed<T> {
    /// Observes `stream` with `probe`, which is dropped with it.
    pub(crate) fn new(stream: TcpStream, probe: T) -> Self {
        Self { stream, probe }
    }
}

/// Records the writes of a data plane.
pub(crate) struct CallerProbe {
    /// The data plane.
    pub(crate) from: Host,
    /// The worker of the sandbox.
    pub(crate) worker: Host,
    pub(crate) event_log: EventLog,
}

impl Probe for CallerProbe {
    fn wrote(&mut self) {
        self.event_log.record(Event::Wrote { from: self.from, worker: self.worker });
    }
}

/// Records the invocations of a sandbox on an HTTP/1.1 connection. One runs from its complete head to the first byte of
/// the response or the end of the connection.
pub(crate) struct SandboxProbe {
    worker: Host,
    port: u16,
    event_log: EventLog,
    head: Vec<u8>,
    running: Option<CallId>,
}

/// Larger than any head that clients of a run cause.
const MAX_HEAD_BYTES: usize = 4096;

impl SandboxProbe {
    /// For a connection of the sandbox on `port` of `worker`.
    pub(crate) fn new(worker: Host, port: u16, event_log: EventLog) -> Self {
        Self { worker, port, event_log, head: Vec::new(), running: None }
    }

    fn end(&mut self, responded: bool) {
        self.head.clear();
        if let Some(call) = self.running.take() {
            self.event_log.record(Event::Ended { worker: self.worker, port: self.port, call, responded });
        }
    }
}

impl Probe for SandboxProbe {
    fn read(&mut self, bytes: &[u8]) {
        // Bytes after the head are its body. A connection has one request at a time.
        if self.running.is_some() || self.head.len() > MAX_HEAD_BYTES {
            return;
        }
        self.head.extend_from_slice(bytes);
        if let Some(call) = call_in(&self.head) {
            self.running = Some(call);
            self.event_log.record(Event::Began { worker: self.worker, port: self.port, call });
        }
    }

    fn wrote(&mut self) {
        self.end(true);
    }
}

impl Drop for SandboxProbe {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// The label of an invocation, which its client sends as the header `function`.
pub(crate) fn label(function: &str, call: CallId) -> String {
    format!("{function}#{call}")
}

/// The invocation of a head; `None` if the head is incomplete.
fn call_in(head: &[u8]) -> Option<CallId> {
    let text = std::str::from_utf8(head).ok()?;
    let (head, _body) = text.split_once("\r\n\r\n")?;
    let label = head.lines().find_map(|line| line.strip_prefix("function: "))?;
    label.split_once('#')?.1.parse().ok()
}

impl<T: Probe> AsyncRead for Probed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.probe.read(&buffer.filled()[before..]);
        }
        poll
    }
}

impl<T: Probe> AsyncWrite for Probed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(poll, Poll::Ready(Ok(1..))) {
            self.probe.wrote();
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
