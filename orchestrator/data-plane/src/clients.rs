//! The connections of clients, and the choice of those that are closed when there are too many.
//!
//! At the bound, idle connections are asked to end to make room: closing an idle connection costs its client a
//! handshake, not accepting one costs it a response. A connection whose client does not read its responses counts as
//! idle. If none is idle, a few surplus connections are accepted only to be refused.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use http::{HeaderValue, Version};
use tokio_util::sync::CancellationToken;

use self::{
    dropped::Dropped,
    io::Traffic,
    open::SendDeadline,
    unsent::{Heads, Unsent},
};
use crate::{config::Limits, headers::ClientFields, plane::Plane};

mod dropped;
mod io;
mod open;
mod presence;
mod refused;
mod requests;
mod socket;
mod stream;
mod unsent;

pub(crate) use self::{
    io::ClientIo,
    open::OpenRequest,
    presence::PresenceWatch,
    socket::ClientSocket,
    stream::{Part, Stream, Streams},
    unsent::AllUnsent,
};

/// Connections beyond the bound whose requests are served a refusal.
pub(crate) const MAX_SURPLUS: usize = 64;
/// Idle connections asked to end by one search, so that not every new connection needs a search.
const MAX_RECYCLED: usize = 32;
/// A connection without a request counts as idle only after this time.
const FIRST_REQUEST_GRACE_US: u64 = 1_000_000;
/// Connections examined by one search for idle ones.
const MAX_EXAMINED: usize = 256;

/// Responses that a connection still owes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// Responses that are not complete yet.
    IncompleteResponses,
    /// Only complete responses, which wait for the client to read them.
    CompleteResponses,
    /// Only complete refusals of this data plane.
    Refusals,
    Nothing,
}

/// One client's connection, as its requests see it.
pub(crate) struct Client {
    pub(crate) plane: Arc<Plane>,
    pub(crate) fields: ClientFields,
    /// Accepted beyond the bound: its requests are refused.
    pub(crate) is_surplus: bool,
    /// Cancelled to end it once its requests are complete.
    pub(crate) leave: CancellationToken,
    /// Set before `leave` is cancelled. Each poll of the connection reads it, where the token would be a lock.
    leaving: AtomicBool,
    /// Requests whose responses have not left.
    open: AtomicU32,
    /// Those of them whose responses are complete and wait for the client only.
    complete_responses: AtomicU32,
    /// The last response was a refusal.
    refused: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
    /// The last request has no response yet. HTTP/1.1 only, which has one at a time.
    awaits_response: AtomicBool,
    /// The last request is of HTTP/1.0.
    is_http10: AtomicBool,
    /// The body of the last request has not been read to its end. HTTP/1.1 only, which has one at a time.
    upload_unread: AtomicBool,
    traffic: Traffic,
    dropped: Dropped,
    /// Deadline of the HTTP/1.1 response under way.
    deadline: SendDeadline,
    /// The HTTP/2 stream that has just begun, for the task that runs it.
    new_stream: Mutex<Option<Arc<Stream>>>,
    /// Refusals that the client has not read.
    unsent_refusals: AtomicU32,
    /// Response bytes that the client has not read. HTTP/2 only.
    unsent: Unsent,
    heads: Heads,
    /// The connection was ended because the client read too little.
    cut: AtomicBool,
}

impl Client {
    /// Registers a request of `version`, on `stream` if that is HTTP/2.
    pub(crate) fn request(self: &Arc<Self>, version: Version, stream: Option<Arc<Stream>>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.upload_unread.store(false, Ordering::Relaxed);
        self.awaits_response.store(true, Ordering::Relaxed);
        self.is_http10.store(version < Version::HTTP_11, Ordering::Relaxed);
        self.traffic.at_request();
        OpenRequest::new(self.clone(), stream)
    }

    /// Registers an HTTP/2 stream, and leaves it for the task that runs it.
    pub(crate) fn stream(self: &Arc<Self>) -> Arc<Stream> {
        let stream = Arc::new(Stream::new(self.clone()));
        *self.new_stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.clone());
        stream
    }

    /// Takes the stream that was left by [`Self::stream`].
    fn take_stream(&self) -> Option<Arc<Stream>> {
        self.new_stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns true if the function's time-out has passed within the response. HTTP/1.1 only.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(|us| self.plane.clock.now_us() >= us)
    }

    /// Resets HTTP/2 streams whose responses are overdue. Returns the deadline of the next one, in microseconds of the
    /// data plane's clock.
    pub(crate) fn end_late(&self) -> Option<u64> {
        self.unsent.cut_late(self.plane.clock.now_us())
    }

    /// Returns true if there are unread responses whose streams the HTTP library has forgotten.
    pub(crate) fn leaves_forgotten(&self) -> bool {
        self.unsent.forgotten() > 0
    }

    /// Returns true if it has had these for a whole `limits.send_timeout`; called once in each.
    pub(crate) fn has_late_forgotten(&self) -> bool {
        self.unsent.begin_generation()
    }

    /// Upper bound of the unread bytes of header sections while the client reads nothing. They belong to no stream that
    /// could be reset.
    pub(crate) fn unsent_heads(&self) -> u64 {
        match self.traffic.blocked() {
            Some(written) => self.heads.left(written),
            None => {
                self.heads.clear();
                0
            }
        }
    }

    /// Records that the connection ends because the client reads too little. Unread responses count as broken.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        // The HTTP/1.1 library has forgotten a response that only waits for its client.
        let is_forgotten = self.is_idle() && !self.is_http2() && self.traffic.blocked().is_some();
        if is_forgotten && !self.refused.load(Ordering::Relaxed) {
            self.plane.metrics.response_broken();
        }
    }

    /// Returns true after [`Self::cut`].
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.plane.config.limits
    }

    /// Returns true if the target of the current request had a fragment. HTTP/1.1 only.
    pub(crate) fn had_fragment(&self) -> bool {
        self.dropped.had_fragment(self.requests())
    }

    /// Returns true if the current request has both Transfer-Encoding and Content-Length. What follows may be no
    /// request then. HTTP/1.1 only.
    pub(crate) fn had_two_framings(&self) -> bool {
        self.dropped.had_two_framings(self.requests())
    }

    /// Returns true if the client may be sending bytes that nobody reads.
    pub(crate) fn has_unread(&self) -> bool {
        self.has_unread_upload() || self.dropped.had_any_two_framings()
    }

    /// Returns true if the client may be sending a body that nobody reads.
    pub(crate) fn has_unread_upload(&self) -> bool {
        self.upload_unread.load(Ordering::Relaxed) && !self.is_http2()
    }

    /// Returns true if the current request was received to the last byte of its body. HTTP/1.1 only.
    pub(crate) fn has_come_whole(&self) -> bool {
        self.traffic.whole_requests() >= self.requests()
    }

    /// Records that the current request has a body.
    pub(crate) fn upload_begins(&self) {
        self.upload_unread.store(true, Ordering::Relaxed);
    }

    /// Records that the body was read to its end.
    pub(crate) fn upload_ended(&self) {
        self.upload_unread.store(false, Ordering::Relaxed);
    }

    /// Returns true if the connection is to end once its requests are complete.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.plane.is_stopping()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns true if every response has left.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// The responses that closing the connection would cost its client. The HTTP library may have forgotten a response
    /// that waits for its client; for HTTP/1.1 the last one counts then.
    pub(crate) fn owed(&self) -> Owed {
        let open = self.open.load(Ordering::Relaxed);
        if open > self.complete_responses.load(Ordering::Relaxed) {
            return Owed::IncompleteResponses;
        }
        let is_forgotten = match self.is_http2() {
            true => self.unsent.responses() > 0,
            false => self.traffic.blocked().is_some(),
        };
        if open == 0 && !is_forgotten {
            return Owed::Nothing;
        }
        let are_refusals = match self.is_http2() {
            true => open == self.unsent_refusals.load(Ordering::Relaxed) && !is_forgotten,
            false => self.refused.load(Ordering::Relaxed),
        };
        if are_refusals { Owed::Refusals } else { Owed::CompleteResponses }
    }

    /// Returns true if a request head has begun and is not complete.
    pub(crate) fn has_partial_head(&self) -> bool {
        self.is_idle() && self.traffic.has_partial_head()
    }

    /// Returns true if nobody reads from the client while it waits for a response or reads one, so that its leaving
    /// would go unnoticed. Called once after each poll of the connection.
    fn is_out_of_sight(&self) -> bool {
        let is_seen = self.traffic.take_reading();
        !is_seen && !self.is_idle() && !self.is_http2()
    }

    /// Returns true if an interim response may be written now.
    fn may_be_sent_interim(&self) -> bool {
        self.awaits_response.load(Ordering::Relaxed) && self.takes_interim() && self.traffic.blocked().is_none()
    }

    /// Returns true if the last request's version knows interim responses.
    fn takes_interim(&self) -> bool {
        !self.is_http10.load(Ordering::Relaxed)
    }

    /// Bytes written to the client.
    pub(crate) fn written(&self) -> u64 {
        self.traffic.written()
    }

    /// A number that changes as the client reads what it is owed. Control frames like PING do not count.
    pub(crate) fn taken(&self) -> u64 {
        if self.is_http2() { self.unsent.mark() } else { self.traffic.written() }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.traffic.is_http2()
    }

    /// While the client reads nothing: a number that changes with any progress that counts. A streaming response has
    /// the function's time-out, and HTTP/2 streams have deadlines of their own, so each byte counts there; a complete
    /// HTTP/1.1 response has to leave as a whole.
    pub(crate) fn blocked(&self) -> Option<u64> {
        let counts_bytes = self.is_http2() || self.deadline.get().is_some();
        self.traffic.blocked().map(|written| if counts_bytes { written } else { u64::MAX - self.requests() })
    }

    /// Asks the connection to end once its requests are complete.
    pub(crate) fn end_when_idle(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.leave.cancel();
    }
}

/// The connections in the order of the CLOCK algorithm: an examined one moves to the end, and one without requests
/// between two examinations is idle.
#[derive(Default)]
pub(crate) struct Clients {
    ring: VecDeque<RingEntry>,
}

struct RingEntry {
    client: Weak<Client>,
    /// Time of the accept, in microseconds of the data plane's clock.
    since_us: u64,
    /// Requests at the last examination; `None` before the first.
    requests: Option<u64>,
}

impl Clients {
    /// Registers a connection from `peer`, the `count`-th of those open now. All end with `leave`.
    pub(crate) fn register(
        &mut self,
        plane: &Arc<Plane>,
        peer: SocketAddr,
        count: usize,
        leave: &CancellationToken,
    ) -> Arc<Client> {
        let forwarded_for = HeaderValue::from_str(&peer.ip().to_string()).expect("an address is visible ASCII");
        let now_us = plane.clock.now_us();
        // `count` comes from the accept loop: the ring keeps connections that have ended until it meets them.
        let is_full = count > plane.config.limits.client_connections();
        let client = Arc::new(Client {
            plane: plane.clone(),
            fields: ClientFields { forwarded_for },
            is_surplus: is_full && self.recycle(now_us) == 0,
            leave: leave.child_token(),
            leaving: AtomicBool::new(false),
            open: AtomicU32::new(0),
            complete_responses: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            awaits_response: AtomicBool::new(false),
            is_http10: AtomicBool::new(false),
            upload_unread: AtomicBool::new(false),
            traffic: Traffic::default(),
            dropped: Dropped::default(),
            deadline: SendDeadline::default(),
            new_stream: Mutex::default(),
            unsent_refusals: AtomicU32::new(0),
            unsent: Unsent::default(),
            heads: Heads::default(),
            cut: AtomicBool::new(false),
        });
        if !client.is_surplus {
            // Under churn, ended connections are dropped here and not only at the bound.
            self.forget_ended(2);
            self.ring.push_back(RingEntry { client: Arc::downgrade(&client), since_us: now_us, requests: None });
        }
        client
    }

    /// Asks some idle connections to end and returns their number.
    fn recycle(&mut self, now_us: u64) -> usize {
        let mut recycled = 0;
        // Twice around at most: the first examination of a connection only records its requests.
        for _ in 0..MAX_EXAMINED.min(2 * self.ring.len()) {
            let Some(mut entry) = self.ring.pop_front() else { break };
            let Some(client) = entry.client.upgrade() else { continue };
            let requests = client.requests();
            // A client that does not read its complete responses is as good as idle.
            let is_unused = entry.requests == Some(requests) && client.owed() != Owed::IncompleteResponses;
            // A client that has just connected is about to send a request.
            let had_time = requests > 0 || now_us > entry.since_us + FIRST_REQUEST_GRACE_US;
            if is_unused && had_time {
                client.end_when_idle();
                recycled += 1;
                if recycled == MAX_RECYCLED {
                    break;
                }
            } else {
                entry.requests = Some(requests);
                self.ring.push_back(entry);
            }
        }
        recycled
    }

    /// Drops the ended ones of the next `count` connections.
    fn forget_ended(&mut self, count: usize) {
        for _ in 0..count.min(self.ring.len()) {
            let Some(entry) = self.ring.pop_front() else { return };
            if entry.client.strong_count() > 0 {
                self.ring.push_back(entry);
            }
        }
    }
}
