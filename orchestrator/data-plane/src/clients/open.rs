//! A request whose response has not left: counted, and bounded in time. The HTTP library polls a response body only
//! while the client reads, so the deadline is enforced by the task of the connection.

use std::{
    mem::{replace, take},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::{
    Client,
    stream::{Departure, Part, Stream},
    unsent::Reservation,
};
use crate::headers;

/// Unread refusals of one connection. Beyond this number a refusal has no body, which needs no space in the client's
/// windows.
const UNSENT_REFUSALS: u32 = 64;

/// Bytes of a held stream in the HTTP library, at most: a client that reads its responses leaves little.
const MAX_PART_BYTES: usize = 64 * 1024;

/// Largest complete HTTP/1.1 response that holds no permit while it leaves: a client that reads nothing has at most
/// one. Responses of HTTP/2 hold none, since their bytes are bounded.
const SMALL_RESPONSE_BYTES: usize = 16 * 1024;

/// Deadline of an HTTP/1.1 response to leave, in microseconds of the data plane's clock; 0: none is set.
#[derive(Debug, Default)]
pub(super) struct SendDeadline(AtomicU64);

impl SendDeadline {
    fn set(&self, us: u64) {
        self.0.store(us, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&us| us > 0)
    }
}

/// A request whose response has not left.
pub(crate) struct OpenRequest {
    client: Arc<Client>,
    /// Its stream; `None` for HTTP/1.1, which has one response at a time.
    stream: Option<Arc<Stream>>,
    responded: bool,
    refused: bool,
    /// The whole response is here.
    is_complete: bool,
    /// The response is counted as broken.
    broken: bool,
    /// Reservations in the client's allowance: for the only part of the response, and for the stream.
    reservation: Option<Reservation>,
    own_reservation: Option<Reservation>,
    /// Holds a permit of `limits.invocations`.
    holds_permit: bool,
}

impl OpenRequest {
    /// Takes a permit for a request of `client`, on `stream` if it is HTTP/2.
    pub(super) fn new(client: Arc<Client>, stream: Option<Arc<Stream>>) -> Self {
        client.plane.request_opened();
        Self {
            client,
            stream,
            responded: false,
            refused: false,
            is_complete: false,
            broken: false,
            reservation: None,
            own_reservation: None,
            holds_permit: true,
        }
    }

    /// Records its response head with these fields.
    pub(crate) fn responded(&mut self, fields: &HeaderMap) {
        self.responded = true;
        // The head of an HTTP/1.1 response needs no count: a client that does not read it blocks its only response.
        if self.stream.is_some() {
            self.client.heads.give(headers::size(fields) as u64, self.client.traffic.written());
        }
        self.client.refused.store(self.refused, Ordering::Relaxed);
        self.client.awaits_response.store(false, Ordering::Relaxed);
    }

    /// Marks it as refused, which releases its permit while the refusal leaves. Returns true if the refusal may have a
    /// body.
    pub(crate) fn refuse(&mut self) -> bool {
        self.refused = true;
        self.release_permit();
        self.client.unsent_refusals.fetch_add(1, Ordering::Relaxed) < UNSENT_REFUSALS
    }

    /// Starts a streaming response, which may take until `deadline`.
    pub(crate) fn set_streaming_until(&mut self, deadline: Instant) {
        // 0 stands for no deadline.
        let until_us = self.client.plane.clock.us_at(deadline).max(1);
        match &self.stream {
            Some(stream) => stream.hold(until_us),
            None => self.client.deadline.set(until_us),
        }
    }

    /// Records that the response is complete. On a stream it releases the permit, since its bytes are bounded.
    pub(crate) fn set_complete(&mut self) {
        if replace(&mut self.is_complete, true) {
            return;
        }
        self.client.complete_responses.fetch_add(1, Ordering::Relaxed);
        if let Some(stream) = &self.stream {
            stream.set_complete();
            self.release_permit();
        }
    }

    /// Counts the response as broken and ends it.
    pub(crate) fn fail_early(&mut self) {
        self.count_broken();
        self.set_complete();
    }

    /// Starts a complete response of `length` bytes, which has to leave in time. If an HTTP/1.1 client does not read
    /// it, the socket blocks, which the connection's watch detects.
    pub(crate) fn set_whole_body(&mut self, length: usize) {
        if length <= SMALL_RESPONSE_BYTES {
            self.release_permit();
        }
        // Without a body the end of stream leaves with the head.
        if let Some(stream) = self.stream.as_ref().filter(|_| length > 0) {
            match Reservation::of(&self.client, length as u64, self.refused) {
                Some((part, own)) => (self.reservation, self.own_reservation) = (Some(part), Some(own)),
                None => stream.hold(u64::MAX),
            }
        }
        self.set_complete();
    }

    /// Wraps a part of the response for the HTTP library, in a task that `waker` wakes; `None` if the stream has to
    /// end.
    pub(crate) fn part(&mut self, bytes: Bytes, waker: &Waker) -> Option<Part> {
        match (&self.stream, self.reservation.take()) {
            (Some(_), Some(reservation)) => Some(Part::last(bytes, reservation)),
            (Some(stream), None) => stream.give(bytes, waker),
            (None, _) => Some(Part::uncounted(bytes)),
        }
    }

    /// Size limit of one part of the response.
    pub(crate) fn max_part_bytes(&self) -> usize {
        // A frame from the sandbox may have 400 KiB, all of which count as unread at first: two downloads of a client
        // that reads promptly could exceed a small bound.
        let is_held = self.stream.as_ref().is_some_and(|stream| stream.is_held());
        if is_held { MAX_PART_BYTES } else { usize::MAX }
    }

    /// Returns true if the next part, or the end, may follow. On a held stream that is once the last part has left,
    /// when its task is woken.
    pub(crate) fn may_continue(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.has_left())
    }

    /// Returns true if it has to end early.
    pub(crate) fn must_end(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.must_end())
    }

    fn count_broken(&mut self) {
        if !replace(&mut self.broken, true) {
            self.client.plane.metrics.response_broken();
        }
    }

    fn release_permit(&mut self) {
        if take(&mut self.holds_permit) {
            self.client.plane.request_closed();
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let departure = match &self.stream {
            Some(stream) => stream.end(),
            None => Departure { cut: false, whole: true },
        };
        // Only the stream's own: the reservation for the bytes has moved into the part, which the library may keep for
        // longer.
        drop(self.own_reservation.take());
        self.client.deadline.set(0);
        self.client.traffic.at_request();
        let has_left = self.is_complete && departure.whole;
        if !has_left && self.responded && !self.refused && (departure.cut || self.client.is_cut()) {
            self.count_broken();
        }
        // In this order, so that for a moment this request may look incomplete, but no other one looks complete.
        if self.is_complete {
            self.client.complete_responses.fetch_sub(1, Ordering::Relaxed);
        }
        self.client.open.fetch_sub(1, Ordering::Relaxed);
        if self.refused {
            self.client.unsent_refusals.fetch_sub(1, Ordering::Relaxed);
        }
        self.release_permit();
        if !self.responded {
            self.client.awaits_response.store(false, Ordering::Relaxed);
            self.client.plane.metrics.client_gone();
        }
    }
}
