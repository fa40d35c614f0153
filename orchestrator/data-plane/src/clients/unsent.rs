//! What HTTP/2 clients have not taken of their responses: bounded in bytes over all of them, and in time.
//!
//! A stream's window decides when the HTTP library asks for a part of a response, and not when that part leaves: with a
//! window of one byte the library takes a whole part, calls the stream done, and keeps the part. So a part counts until the
//! library lets go of it, whatever has become of its stream. HTTP/1.1 has one response at a time, and nothing is counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Buf, Bytes};

use super::Client;

/// What a stream holds besides the bytes of its response: its request, its state and its task.
const STREAM_BYTES: u64 = 16 * 1024;

/// Of one client.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    bytes: AtomicU64,
    /// Parts that the HTTP library has.
    parts: AtomicU64,
    /// When the library was given the first of them, or last let go of one, in microseconds of the data plane's clock.
    moved_us: AtomicU64,
}

impl Unsent {
    /// Whether the library has parts that the client has not taken.
    pub(super) fn waits(&self) -> bool {
        self.parts.load(Ordering::Relaxed) > 0
    }

    /// When it last took one, while there are others.
    pub(super) fn waits_since_us(&self) -> Option<u64> {
        self.waits().then(|| self.moved_us.load(Ordering::Relaxed))
    }
}

/// Bytes that count as not taken by a client until this is dropped.
pub(crate) struct Hold {
    client: Arc<Client>,
    bytes: u64,
    /// Whether the HTTP library has them.
    given: bool,
}

impl Hold {
    /// A complete response of so many bytes is there for `client`, on a stream of its own.
    pub(super) fn response(client: &Arc<Client>, bytes: usize) -> Self {
        Self::new(client, STREAM_BYTES + bytes as u64)
    }

    /// So many bytes of a response that still flows.
    pub(super) fn part(client: &Arc<Client>, bytes: usize) -> Self {
        Self::new(client, bytes as u64)
    }

    fn new(client: &Arc<Client>, bytes: u64) -> Self {
        client.unsent.bytes.fetch_add(bytes, Ordering::Relaxed);
        client.plane.unsent_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { client: client.clone(), bytes, given: false }
    }

    /// Whether that is too much: of all clients together more than `limits.unsent_responses`, and of this one more than
    /// its share of that, so that those that take their responses lose none.
    pub(super) fn is_too_much(&self) -> bool {
        let plane = &self.client.plane;
        let limits = &plane.config.limits;
        let most = limits.unsent_responses.as_u64();
        let own = self.client.unsent.bytes.load(Ordering::Relaxed);
        plane.unsent_bytes.load(Ordering::Relaxed) > most && own > most / limits.client_connections() as u64
    }

    /// The HTTP library gets them.
    fn give(&mut self) {
        self.given = true;
        let unsent = &self.client.unsent;
        if unsent.parts.fetch_add(1, Ordering::Relaxed) == 0 {
            unsent.moved_us.store(self.client.plane.clock.now_us(), Ordering::Relaxed);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (unsent, plane) = (&self.client.unsent, &self.client.plane);
        unsent.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        plane.unsent_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.given {
            unsent.moved_us.store(plane.clock.now_us(), Ordering::Relaxed);
            unsent.parts.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A part of a response on its way to the client.
pub(crate) struct Part {
    bytes: Bytes,
    /// Of HTTP/2 only.
    _hold: Option<Hold>,
}

impl Part {
    /// `bytes`, which the HTTP library gets now.
    pub(super) fn new(bytes: Bytes, mut hold: Option<Hold>) -> Self {
        if let Some(hold) = &mut hold {
            hold.give();
        }
        Self { bytes, _hold: hold }
    }
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
