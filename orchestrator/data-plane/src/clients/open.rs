//! A request whose response has not left: counted, and bounded in time. Who sends the response asks for its body only
//! while the client takes some, so the time is watched by whoever runs the connection or the HTTP/2 stream.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Client,
    unsent::{Hold, Part},
};

/// Refusals on one connection that the client has not taken; beyond so many a refusal has no body, which needs no room
/// in the client's windows.
const UNSENT_REFUSALS: u32 = 64;

/// A complete response of at most so many bytes holds no place of others while it is on its way: a client that takes none
/// is bounded by its streams.
const SMALL_RESPONSE_BYTES: usize = 16 * 1024;

/// When a response must have left, in microseconds of the data plane's clock; 0: nothing is to leave.
#[derive(Debug, Default)]
pub(crate) struct SendDeadline(AtomicU64);

impl SendDeadline {
    /// It must have left at `us`.
    fn set(&self, us: u64) {
        self.0.store(us, Ordering::Relaxed);
    }

    /// When it must have left.
    pub(crate) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&us| us > 0)
    }
}

/// A request whose response has not left.
pub(crate) struct OpenRequest {
    client: Arc<Client>,
    /// Its stream's; absent in HTTP/1.1, where the connection has one.
    stream: Option<Arc<SendDeadline>>,
    answered: bool,
    refused: bool,
    /// Whether the whole of its response is here.
    settled: bool,
    /// When the function's time-out passes, while its response flows.
    until_us: u64,
    /// Its complete response, while that waits for an HTTP/2 client to ask for it.
    hold: Option<Hold>,
    /// Whether it holds a place, of which there are as many as invocations may be under way.
    placed: bool,
}

impl OpenRequest {
    /// A request of `client` has come, on `stream` if it is HTTP/2.
    pub(super) fn new(client: Arc<Client>, stream: Option<Arc<SendDeadline>>) -> Self {
        client.plane.request_opened();
        Self { client, stream, answered: false, refused: false, settled: false, until_us: 0, hold: None, placed: true }
    }

    /// The head of its answer is there.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
        self.client.refused.store(self.refused, Ordering::Relaxed);
        self.client.awaits_response.store(false, Ordering::Relaxed);
    }

    /// It is refused, and holds no place of others while the refusal is on its way. Whether the refusal may have a body.
    pub(crate) fn refuse(&mut self) -> bool {
        self.refused = true;
        self.leave_place();
        self.client.unsent_refusals.fetch_add(1, Ordering::Relaxed) < UNSENT_REFUSALS
    }

    /// Its response comes as the function makes it, until `deadline`, and its head goes to the client.
    pub(crate) fn flows_until(&mut self, deadline: Instant) {
        self.until_us = self.client.plane.clock.us_at(deadline).max(1);
        self.deadline().set(self.until_us);
        self.gave();
    }

    /// A part of its response goes to the client, and of an HTTP/2 stream the next is asked for when there is room for it:
    /// until then the client is waited for. In HTTP/1.1 the connection's watch knows whether something leaves.
    pub(crate) fn gave(&self) {
        if let Some(stream) = &self.stream {
            stream.set(self.send_by_us().min(self.until_us));
        }
    }

    /// The client has taken what there is of its response: the function is waited for.
    pub(crate) fn awaits_more(&self) {
        self.deadline().set(self.until_us);
    }

    /// The last part of its response goes to the client.
    pub(crate) fn gave_last(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.client.settled.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(stream) = &self.stream {
            stream.set(self.send_by_us());
        }
    }

    /// Its response ends early.
    pub(crate) fn broke_off(&mut self) {
        self.client.plane.metrics.response_broken();
        self.gave_last();
    }

    /// When the client must have taken what goes to it now.
    fn send_by_us(&self) -> u64 {
        let plane = &self.client.plane;
        plane.clock.us_at(Instant::now() + plane.config.limits.send_timeout).max(1)
    }

    /// Its response of `length` bytes is here, and has to leave in time. What an HTTP/1.1 client does not take blocks its
    /// connection, whose watch knows it.
    pub(crate) fn is_whole(&mut self, length: usize) {
        if length <= SMALL_RESPONSE_BYTES {
            self.leave_place();
        }
        self.gave_last();
        // An empty one is sent with its head.
        if let Some(stream) = &self.stream
            && length > 0
        {
            let hold = Hold::response(&self.client, length);
            if hold.is_too_much() {
                // It is over: the stream ends, also when nobody asks for the body.
                stream.set(1);
            }
            self.hold = Some(hold);
        }
    }

    /// A part of its response as it goes to the client; `None` where the client has left too much and gets no more.
    pub(crate) fn part(&mut self, bytes: Bytes) -> Option<Part> {
        if self.stream.is_none() {
            return Some(Part::new(bytes, None));
        }
        let hold = self.hold.take().unwrap_or_else(|| Hold::part(&self.client, bytes.len()));
        (!hold.is_too_much()).then(|| Part::new(bytes, Some(hold)))
    }

    fn leave_place(&mut self) {
        if std::mem::take(&mut self.placed) {
            self.client.plane.request_closed();
        }
    }

    fn deadline(&self) -> &SendDeadline {
        self.stream.as_deref().unwrap_or(&self.client.deadline)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.deadline().set(0);
        self.client.traffic.at_request();
        // In this order: for a moment it may seem to be waited for, but no other one seems not to be.
        if self.settled {
            self.client.settled.fetch_sub(1, Ordering::Relaxed);
        }
        self.client.open.fetch_sub(1, Ordering::Relaxed);
        if self.refused {
            self.client.unsent_refusals.fetch_sub(1, Ordering::Relaxed);
        }
        self.leave_place();
        if !self.answered {
            self.client.awaits_response.store(false, Ordering::Relaxed);
            self.client.plane.metrics.client_gone();
        }
    }
}

/// Runs the HTTP/2 streams of a client, each until its response must have left.
#[derive(Clone)]
pub(crate) struct Streams {
    client: Arc<Client>,
}

impl Streams {
    /// Those of `client`.
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // The HTTP library calls the service, which leaves it there, just before.
        let Some(deadline) = self.client.take_stream() else {
            tokio::spawn(stream);
            return;
        };
        let clock = self.client.plane.clock;
        tokio::spawn(async move {
            let mut stream = pin!(stream);
            let mut sleep: Option<Pin<Box<Sleep>>> = None;
            // Dropping the stream resets it.
            poll_fn(|cx| {
                if stream.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                let Some(us) = deadline.get() else { return Poll::Pending };
                let at = clock.at(us);
                let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
                // A later time is looked at when the earlier has come: it mostly moves with each part of a response.
                while at < sleep.deadline() || sleep.as_mut().poll(cx).is_ready() {
                    if at == sleep.deadline() {
                        return Poll::Ready(());
                    }
                    sleep.as_mut().reset(at);
                }
                Poll::Pending
            })
            .await;
        });
    }
}
