//! Taps on connections: a data plane's towards workers, and a sandbox's own. The parts do not know of them, so what
//! they see is what really happened and not what a part says of itself.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use super::{
    event::{CallId, Event},
    host::Host,
    ledger::Ledger,
};

/// Sees the bytes of one connection.
pub(crate) trait Tap: Send + Unpin + 'static {
    /// These were read.
    fn read(&mut self, _bytes: &[u8]) {}

    /// Some were written.
    fn wrote(&mut self) {}
}

/// A connection under observation.
pub(crate) struct Tapped<T> {
    stream: TcpStream,
    tap: T,
}

impl<T> Tapped<T> {
    /// Observes `stream` with `tap`, which is dropped with it.
    pub(crate) fn new(stream: TcpStream, tap: T) -> Self {
        Self { stream, tap }
    }
}

/// A data plane's side: notes when it writes.
pub(crate) struct CallerTap {
    /// The data plane.
    pub(crate) from: Host,
    /// Whose sandbox it talks to.
    pub(crate) worker: Host,
    /// Where to write it down.
    pub(crate) ledger: Ledger,
}

impl Tap for CallerTap {
    fn wrote(&mut self) {
        self.ledger.record(Event::Carried { from: self.from, worker: self.worker });
    }
}

/// A sandbox's side of an HTTP/1.1 connection: notes which invocation runs, from its head having been read to the
/// first byte of the answer or the end of the connection.
pub(crate) struct SandboxTap {
    worker: Host,
    port: u16,
    ledger: Ledger,
    head: Vec<u8>,
    running: Option<CallId>,
}

/// Larger than any head that clients of a run cause.
const LARGEST_HEAD_BYTES: usize = 4096;

impl SandboxTap {
    /// For a connection of the sandbox that answers on `port` of `worker`.
    pub(crate) fn new(worker: Host, port: u16, ledger: Ledger) -> Self {
        Self { worker, port, ledger, head: Vec::new(), running: None }
    }

    fn end(&mut self, answered: bool) {
        self.head.clear();
        if let Some(call) = self.running.take() {
            self.ledger.record(Event::Ended { worker: self.worker, port: self.port, call, answered });
        }
    }
}

impl Tap for SandboxTap {
    fn read(&mut self, bytes: &[u8]) {
        if self.running.is_some() || self.head.len() > LARGEST_HEAD_BYTES {
            return;
        }
        self.head.extend_from_slice(bytes);
        if let Some(call) = call_in(&self.head) {
            self.running = Some(call);
            self.ledger.record(Event::Began { worker: self.worker, port: self.port, call });
        }
    }

    fn wrote(&mut self) {
        self.end(true);
    }
}

impl Drop for SandboxTap {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// The label of an invocation, which its client sends as the header `function`.
pub(crate) fn label(function: &str, call: CallId) -> String {
    format!("{function}#{call}")
}

/// The invocation whose complete head this is.
fn call_in(head: &[u8]) -> Option<CallId> {
    let text = std::str::from_utf8(head).ok()?;
    let (head, _body) = text.split_once("\r\n\r\n")?;
    let label = head.lines().find_map(|line| line.strip_prefix("function: "))?;
    label.split_once('#')?.1.parse().ok()
}

impl<T: Tap> AsyncRead for Tapped<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.tap.read(&buffer.filled()[before..]);
        }
        poll
    }
}

impl<T: Tap> AsyncWrite for Tapped<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(poll, Poll::Ready(Ok(1..))) {
            self.tap.wrote();
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
