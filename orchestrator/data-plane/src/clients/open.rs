//! A request whose response has not left: counted, and bounded in time. Who sends the response asks for its body only
//! while the client takes some, so the time is watched by whoever runs the connection.

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

/// Refusals on one connection that the client has not taken; beyond so many a refusal has no body, which needs no room
/// in the client's windows.
const UNSENT_REFUSALS: u32 = 64;

/// The HTTP library has so many bytes of a held stream at most: a client that takes its responses leaves little.
const MAX_PART_BYTES: usize = 64 * 1024;

/// A complete HTTP/1.1 response of at most so many bytes holds no place of others while it is on its way: a client that
/// takes none has one. Of HTTP/2 none holds a place, since their bytes are bounded.
const SMALL_RESPONSE_BYTES: usize = 16 * 1024;

/// When an HTTP/1.1 response must have left, in microseconds of the data plane's clock; 0: nothing is to leave.
#[derive(Debug, Default)]
pub(super) struct SendDeadline(AtomicU64);

impl SendDeadline {
    /// It must have left at `us`.
    fn set(&self, us: u64) {
        self.0.store(us, Ordering::Relaxed);
    }

    /// When it must have left.
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&us| us > 0)
    }
}

/// A request whose response has not left.
pub(crate) struct OpenRequest {
    client: Arc<Client>,
    /// Its stream; absent in HTTP/1.1, where the connection has one response at a time.
    stream: Option<Arc<Stream>>,
    responded: bool,
    refused: bool,
    /// Whether the whole of its response is here.
    is_complete: bool,
    /// Whether its response is counted as broken.
    broken: bool,
    /// Room in the client's allowance: for the only part of its response, and for itself.
    reservation: Option<Reservation>,
    own_reservation: Option<Reservation>,
    /// Whether it holds a place, of which there are as many as invocations may be under way.
    holds_permit: bool,
}

impl OpenRequest {
    /// A request of `client` has come, on `stream` if it is HTTP/2.
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

    /// The head of its answer is there, with these fields.
    pub(crate) fn responded(&mut self, fields: &HeaderMap) {
        self.responded = true;
        if self.stream.is_some() {
            self.client.heads.give(headers::size(fields) as u64, self.client.traffic.written());
        }
        self.client.refused.store(self.refused, Ordering::Relaxed);
        self.client.awaits_response.store(false, Ordering::Relaxed);
    }

    /// It is refused, and holds no place of others while the refusal is on its way. Whether the refusal may have a body.
    pub(crate) fn refuse(&mut self) -> bool {
        self.refused = true;
        self.release_permit();
        self.client.unsent_refusals.fetch_add(1, Ordering::Relaxed) < UNSENT_REFUSALS
    }

    /// Its response comes as the function makes it, until `deadline`, and its head goes to the client.
    pub(crate) fn set_streaming_until(&mut self, deadline: Instant) {
        let until_us = self.client.plane.clock.us_at(deadline).max(1);
        match &self.stream {
            Some(stream) => stream.hold(until_us),
            None => self.client.deadline.set(until_us),
        }
    }

    /// The last part of its response is here. On a stream it holds no place from now on: its bytes are bounded.
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

    /// Its response ends early.
    pub(crate) fn fail_early(&mut self) {
        self.count_broken();
        self.set_complete();
    }

    /// Its response of `length` bytes is here, and has to leave in time. What an HTTP/1.1 client does not take blocks its
    /// connection, whose watch knows it.
    pub(crate) fn set_whole_body(&mut self, length: usize) {
        if length <= SMALL_RESPONSE_BYTES {
            self.release_permit();
        }
        // Without a body its end goes with its head.
        if let Some(stream) = self.stream.as_ref().filter(|_| length > 0) {
            match Reservation::of(&self.client, length as u64, self.refused) {
                Some((part, own)) => (self.reservation, self.own_reservation) = (Some(part), Some(own)),
                None => stream.hold(u64::MAX),
            }
        }
        self.set_complete();
    }

    /// A part of its response as it goes to the client, in a task that `waker` wakes; `None` where it has to end.
    pub(crate) fn part(&mut self, bytes: Bytes, waker: &Waker) -> Option<Part> {
        match (&self.stream, self.reservation.take()) {
            (Some(_), Some(reservation)) => Some(Part::last(bytes, reservation)),
            (Some(stream), None) => stream.give(bytes, waker),
            (None, _) => Some(Part::uncounted(bytes)),
        }
    }

    /// The most bytes that a part of its response may have.
    pub(crate) fn max_part_bytes(&self) -> usize {
        let is_held = self.stream.as_ref().is_some_and(|stream| stream.is_held());
        if is_held { MAX_PART_BYTES } else { usize::MAX }
    }

    /// Whether more of its response may follow what was given, or its end. On a held stream, whose task is woken when it may,
    /// that is once all has left.
    pub(crate) fn may_continue(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.has_left())
    }

    /// Whether it has to end early.
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
        drop(self.own_reservation.take());
        self.client.deadline.set(0);
        self.client.traffic.at_request();
        let has_left = self.is_complete && departure.whole;
        if !has_left && self.responded && !self.refused && (departure.cut || self.client.is_cut()) {
            self.count_broken();
        }
        // In this order: for a moment it may seem to be waited for, but no other one seems not to be.
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
