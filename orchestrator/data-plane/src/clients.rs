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

use self::{fragment::Fragments, io::Traffic, unsent::Unsent};
use crate::{config::Limits, headers::ClientFields, plane::Plane};

mod fragment;
mod io;
mod open;
mod presence;
mod refused;
mod socket;
mod unsent;

pub(crate) use self::{
    io::ClientIo,
    open::{OpenRequest, SendDeadline, Streams},
    presence::PresenceWatch,
    socket::ClientSocket,
    unsent::Part,
};

/// Connections beyond the bound that are served a refusal.
pub(crate) const MOST_SURPLUS: usize = 64;
/// Idle connections that are told to end together: so that not each new connection looks for one.
const RECYCLED_AT_ONCE: usize = 32;
/// A connection without a request is not idle before this time has passed.
const FIRST_REQUEST_US: u64 = 1_000_000;
/// Connections looked at by one search for idle ones.
const LOOKED_AT: usize = 256;

/// What a connection still owes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    /// Answers that are not here yet, or not as a whole.
    Answers,
    /// Only answers that are here as a whole, and wait for the client to take them.
    Responses,
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
    settled: AtomicU32,
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
    fragments: Fragments,
    /// Of the HTTP/1.1 response under way.
    deadline: SendDeadline,
    /// That of the HTTP/2 stream that has just begun.
    new_stream: Mutex<Option<Arc<SendDeadline>>>,
    /// Refusals that it has not taken.
    unsent_refusals: AtomicU32,
    /// What it has not taken of its responses. Of HTTP/2 only.
    unsent: Unsent,
}

impl Client {
    /// A request of `version` has come, on `stream` if that is HTTP/2.
    pub(crate) fn request(self: &Arc<Self>, version: Version, stream: Option<Arc<SendDeadline>>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.upload_unread.store(false, Ordering::Relaxed);
        self.awaits_response.store(true, Ordering::Relaxed);
        self.is_http10.store(version < Version::HTTP_11, Ordering::Relaxed);
        self.traffic.at_request();
        OpenRequest::new(self.clone(), stream)
    }

    /// An HTTP/2 stream begins: the deadline of its response, also for whoever runs the stream.
    pub(crate) fn stream(&self) -> Arc<SendDeadline> {
        let deadline = Arc::<SendDeadline>::default();
        *self.new_stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline.clone());
        deadline
    }

    /// The stream that has begun.
    fn take_stream(&self) -> Option<Arc<SendDeadline>> {
        self.new_stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether a response should have left by now: of HTTP/1.1 the one under way, of HTTP/2 those that the library has.
    /// HTTP/2 clients are pinged, so that it is asked now and then.
    pub(crate) fn is_late(&self) -> bool {
        let now_us = || self.plane.clock.now_us();
        let is_blocked = |since_us: u64| {
            let time = now_us().saturating_sub(since_us);
            u128::from(time) >= self.plane.config.limits.send_timeout.as_micros()
        };
        self.deadline.get().is_some_and(|us| now_us() >= us) || self.unsent.waits_since_us().is_some_and(is_blocked)
    }

    /// The bounds for what clients may send.
    pub(crate) fn limits(&self) -> &Limits {
        &self.plane.config.limits
    }

    /// Whether the target of the request that has just come had a fragment. Of HTTP/1.1 only.
    pub(crate) fn had_fragment(&self) -> bool {
        self.fragments.take(self.requests())
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

    /// What its end would cost it. HTTP/1.1 has forgotten an answer that waits for its client; then the last one counts.
    pub(crate) fn debt(&self) -> Debt {
        let open = self.open.load(Ordering::Relaxed);
        if open > self.settled.load(Ordering::Relaxed) {
            return Debt::Answers;
        }
        if open == 0 && self.unsent.waits() {
            return Debt::Responses;
        }
        if open == 0 && (self.is_http2() || self.traffic.blocked().is_none()) {
            return Debt::Nothing;
        }
        let are_refusals = match self.is_http2() {
            true => open == self.unsent_refusals.load(Ordering::Relaxed),
            false => self.refused.load(Ordering::Relaxed),
        };
        if are_refusals { Debt::Refusals } else { Debt::Responses }
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

    /// Writes that it took something of.
    pub(crate) fn writes(&self) -> u64 {
        self.traffic.writes()
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.traffic.is_http2()
    }

    /// While it takes nothing of what is to be sent: a number that changes with what it may take time for. A response
    /// that still flows has the function's time-out, so each write counts; one that is complete has to leave as a whole.
    pub(crate) fn blocked(&self) -> Option<u64> {
        let flows = self.deadline.get().is_some();
        self.traffic.blocked().map(|writes| if flows { writes } else { u64::MAX - self.requests() })
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
    ring: VecDeque<Seen>,
}

struct Seen {
    client: Weak<Client>,
    /// When it came, in microseconds of the data plane's clock.
    since_us: u64,
    /// Requests at the last look; `None`: not looked at yet.
    requests: Option<u64>,
}

impl Clients {
    /// A new connection from `peer`, the `count`-th of those open now. All end with `leave`.
    pub(crate) fn enter(
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
            settled: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            awaits_response: AtomicBool::new(false),
            is_http10: AtomicBool::new(false),
            upload_unread: AtomicBool::new(false),
            traffic: Traffic::default(),
            fragments: Fragments::default(),
            deadline: SendDeadline::default(),
            new_stream: Mutex::default(),
            unsent_refusals: AtomicU32::new(0),
            unsent: Unsent::default(),
        });
        if !client.is_surplus {
            // Where connections come and go, those that have ended are met here and not only at the bound.
            self.forget_ended(2);
            self.ring.push_back(Seen { client: Arc::downgrade(&client), since_us: now_us, requests: None });
        }
        client
    }

    /// Tells some connections to end on which nobody is waited for but the client; how many.
    fn recycle(&mut self, now_us: u64) -> usize {
        let mut recycled = 0;
        for _ in 0..LOOKED_AT.min(2 * self.ring.len()) {
            let Some(mut seen) = self.ring.pop_front() else { break };
            let Some(client) = seen.client.upgrade() else { continue };
            let requests = client.requests();
            // One that takes nothing of what is here for it is as good as idle.
            let is_unused = seen.requests == Some(requests) && client.debt() != Debt::Answers;
            // Who has just come is about to ask.
            let had_time = requests > 0 || now_us > seen.since_us + FIRST_REQUEST_US;
            if is_unused && had_time {
                client.end_when_idle();
                recycled += 1;
                if recycled == RECYCLED_AT_ONCE {
                    break;
                }
            } else {
                seen.requests = Some(requests);
                self.ring.push_back(seen);
            }
        }
        recycled
    }

    /// Forgets those of the next `count` that have ended.
    fn forget_ended(&mut self, count: usize) {
        for _ in 0..count.min(self.ring.len()) {
            let Some(seen) = self.ring.pop_front() else { return };
            if seen.client.strong_count() > 0 {
                self.ring.push_back(seen);
            }
        }
    }
}
