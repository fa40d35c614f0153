//! The connections of clients: which there are, and which of them end when there are too many.
//!
//! Within the bound each is served. At the bound, idle ones are told to end and make room for new ones: an idle
//! connection that is closed costs its client a handshake, one that is not accepted costs it an answer. One whose client
//! does not take what is there for it is no better. Where none is idle, a few more are accepted only to be told that they
//! are too many.

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

/// Connections beyond the bound that are served a refusal.
pub(crate) const MAX_SURPLUS: usize = 64;
/// Idle connections that are told to end together: so that not each new connection looks for one.
const MAX_RECYCLED: usize = 32;
/// A connection without a request is not idle before this time has passed.
const FIRST_REQUEST_GRACE_US: u64 = 1_000_000;
/// Connections looked at by one search for idle ones.
const MAX_EXAMINED: usize = 256;

/// What a connection still owes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// Answers that are not here yet, or not as a whole.
    IncompleteResponses,
    /// Only answers that are here as a whole, and wait for the client to take them.
    CompleteResponses,
    /// The same, and this data plane made all of them: they are refusals.
    Refusals,
    /// Nothing.
    Nothing,
}

/// One client's connection, as its requests see it.
pub(crate) struct Client {
    pub(crate) plane: Arc<Plane>,
    pub(crate) fields: ClientFields,
    /// One more than may be served: its requests are refused.
    pub(crate) is_surplus: bool,
    /// Tells it to end once its requests are answered.
    pub(crate) leave: CancellationToken,
    /// Set before `leave`: read by each turn of the connection, where the token would be a lock.
    leaving: AtomicBool,
    /// Requests whose answers have not left.
    open: AtomicU32,
    /// Those of them whose answers are here as a whole: only the client is waited for.
    complete_responses: AtomicU32,
    /// Whether the last answer was a refusal.
    refused: AtomicBool,
    /// Requests so far.
    requests: AtomicU64,
    /// Whether the last request has no response yet. Of HTTP/1.1 only, which has one at a time.
    awaits_response: AtomicBool,
    /// Whether the last request is one of HTTP/1.0.
    is_http10: AtomicBool,
    /// Whether the body of the last request has not been read to its end. Of HTTP/1.1 only, which has one at a time.
    upload_unread: AtomicBool,
    traffic: Traffic,
    dropped: Dropped,
    /// Of the HTTP/1.1 response under way.
    deadline: SendDeadline,
    /// The HTTP/2 stream that has just begun.
    new_stream: Mutex<Option<Arc<Stream>>>,
    /// Refusals that it has not taken.
    unsent_refusals: AtomicU32,
    /// What it has not taken of its responses. Of HTTP/2 only.
    unsent: Unsent,
    heads: Heads,
    /// Whether its connection was ended because it took too little.
    cut: AtomicBool,
}

impl Client {
    /// A request of `version` has come, on `stream` if that is HTTP/2.
    pub(crate) fn request(self: &Arc<Self>, version: Version, stream: Option<Arc<Stream>>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.upload_unread.store(false, Ordering::Relaxed);
        self.awaits_response.store(true, Ordering::Relaxed);
        self.is_http10.store(version < Version::HTTP_11, Ordering::Relaxed);
        self.traffic.at_request();
        OpenRequest::new(self.clone(), stream)
    }

    /// An HTTP/2 stream begins. It is left for the task that runs it, too.
    pub(crate) fn stream(self: &Arc<Self>) -> Arc<Stream> {
        let stream = Arc::new(Stream::new(self.clone()));
        *self.new_stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream.clone());
        stream
    }

    /// The stream that has begun.
    fn take_stream(&self) -> Option<Arc<Stream>> {
        self.new_stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the function's time-out has passed within its response. Of HTTP/1.1 only.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.get().is_some_and(|us| self.plane.clock.now_us() >= us)
    }

    /// Ends the HTTP/2 streams whose responses should have left by now. When the next one should have, in microseconds of the
    /// data plane's clock, if there are others.
    pub(crate) fn end_late(&self) -> Option<u64> {
        self.unsent.cut_late(self.plane.clock.now_us())
    }

    /// Whether it has responses that it has not taken and whose streams are forgotten.
    pub(crate) fn leaves_forgotten(&self) -> bool {
        self.unsent.forgotten() > 0
    }

    /// Asked once in each `limits.send_timeout`: whether it has had these for as long.
    pub(crate) fn has_late_forgotten(&self) -> bool {
        self.unsent.begin_generation()
    }

    /// Bytes of header sections that it leaves, or more, while it takes nothing. No stream has them that could be ended.
    pub(crate) fn unsent_heads(&self) -> u64 {
        match self.traffic.blocked() {
            Some(written) => self.heads.left(written),
            None => {
                self.heads.clear();
                0
            }
        }
    }

    /// Its connection ends because it takes too little. What has not left is broken.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        // The HTTP/1.1 library has forgotten a response that only waits for its client.
        let is_forgotten = self.is_idle() && !self.is_http2() && self.traffic.blocked().is_some();
        if is_forgotten && !self.refused.load(Ordering::Relaxed) {
            self.plane.metrics.response_broken();
        }
    }

    /// Whether that was so.
    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The bounds for what clients may send.
    pub(crate) fn limits(&self) -> &Limits {
        &self.plane.config.limits
    }

    /// Whether the target of the request that has just come had a fragment. Of HTTP/1.1 only.
    pub(crate) fn had_fragment(&self) -> bool {
        self.dropped.had_fragment(self.requests())
    }

    /// Whether the request that has just come said in two ways where its body ends. What follows may be no request then.
    /// Of HTTP/1.1 only.
    pub(crate) fn had_two_framings(&self) -> bool {
        self.dropped.had_two_framings(self.requests())
    }

    /// Whether it may be sending what nobody reads.
    pub(crate) fn has_unread(&self) -> bool {
        self.has_unread_upload() || self.dropped.had_any_two_framings()
    }

    /// Whether it may be sending a body that nobody reads.
    pub(crate) fn has_unread_upload(&self) -> bool {
        self.upload_unread.load(Ordering::Relaxed) && !self.is_http2()
    }

    /// Whether the latest request has come to the last byte of its body. Of HTTP/1.1 only.
    pub(crate) fn has_come_whole(&self) -> bool {
        self.traffic.whole_requests() >= self.requests()
    }

    /// A request has a body, which is to be read.
    pub(crate) fn upload_begins(&self) {
        self.upload_unread.store(true, Ordering::Relaxed);
    }

    /// A request's body has been read to its end.
    pub(crate) fn upload_ended(&self) {
        self.upload_unread.store(false, Ordering::Relaxed);
    }

    /// Whether it was told to end.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.plane.is_stopping()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether every answer has left.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// What its end would cost it. The HTTP library may have forgotten an answer that waits for its client; of HTTP/1.1 the
    /// last one counts then.
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

    /// Whether the head of a request has begun, and no more is known of it.
    pub(crate) fn has_partial_head(&self) -> bool {
        self.is_idle() && self.traffic.has_partial_head()
    }

    /// Whether nobody reads from it while it waits for a response or takes one, so that nobody sees it leave. Asked once
    /// for each poll of the connection, after it.
    fn is_out_of_sight(&self) -> bool {
        let is_seen = self.traffic.take_reading();
        !is_seen && !self.is_idle() && !self.is_http2()
    }

    /// Whether an interim response may be written to it now.
    fn may_be_sent_interim(&self) -> bool {
        self.awaits_response.load(Ordering::Relaxed) && self.takes_interim() && self.traffic.blocked().is_none()
    }

    /// Whether the last request is of a version that knows interim responses.
    fn takes_interim(&self) -> bool {
        !self.is_http10.load(Ordering::Relaxed)
    }

    /// Bytes that it took.
    pub(crate) fn written(&self) -> u64 {
        self.traffic.written()
    }

    /// A number that changes as it takes what it is owed. PINGs and the like are not that.
    pub(crate) fn taken(&self) -> u64 {
        if self.is_http2() { self.unsent.mark() } else { self.traffic.written() }
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.traffic.is_http2()
    }

    /// While it takes nothing of what is to be sent: a number that changes with what it may take time for. A response
    /// that still flows has the function's time-out, and HTTP/2 streams have deadlines of their own, so each byte counts; an
    /// HTTP/1.1 response that is complete has to leave as a whole.
    pub(crate) fn blocked(&self) -> Option<u64> {
        let counts_bytes = self.is_http2() || self.deadline.get().is_some();
        self.traffic.blocked().map(|written| if counts_bytes { written } else { u64::MAX - self.requests() })
    }

    /// Tells it to end once its requests are answered.
    pub(crate) fn end_when_idle(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.leave.cancel();
    }
}

/// The connections, in the order in which they are looked at for idle ones (the CLOCK algorithm: each look moves one to
/// the end, and one that was not used between two looks is idle).
#[derive(Default)]
pub(crate) struct Clients {
    ring: VecDeque<RingEntry>,
}

struct RingEntry {
    client: Weak<Client>,
    /// When it came, in microseconds of the data plane's clock.
    since_us: u64,
    /// Requests at the last look; `None`: not looked at yet.
    requests: Option<u64>,
}

impl Clients {
    /// A new connection from `peer`, the `count`-th of those open now. All end with `leave`.
    pub(crate) fn register(
        &mut self,
        plane: &Arc<Plane>,
        peer: SocketAddr,
        count: usize,
        leave: &CancellationToken,
    ) -> Arc<Client> {
        let forwarded_for = HeaderValue::from_str(&peer.ip().to_string()).expect("an address is visible ASCII");
        let now_us = plane.clock.now_us();
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
            // Where connections come and go, those that have ended are met here and not only at the bound.
            self.forget_ended(2);
            self.ring.push_back(RingEntry { client: Arc::downgrade(&client), since_us: now_us, requests: None });
        }
        client
    }

    /// Tells some connections to end on which nobody is waited for but the client; how many.
    fn recycle(&mut self, now_us: u64) -> usize {
        let mut recycled = 0;
        for _ in 0..MAX_EXAMINED.min(2 * self.ring.len()) {
            let Some(mut entry) = self.ring.pop_front() else { break };
            let Some(client) = entry.client.upgrade() else { continue };
            let requests = client.requests();
            // One that takes nothing of what is here for it is as good as idle.
            let is_unused = entry.requests == Some(requests) && client.owed() != Owed::IncompleteResponses;
            // Who has just come is about to ask.
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

    /// Forgets those of the next `count` that have ended.
    fn forget_ended(&mut self, count: usize) {
        for _ in 0..count.min(self.ring.len()) {
            let Some(entry) = self.ring.pop_front() else { return };
            if entry.client.strong_count() > 0 {
                self.ring.push_back(entry);
            }
        }
    }
}
