//! The response on one HTTP/2 stream until it has left.
//!
//! Given the end of a stream, the HTTP library keeps only the parts that the client's windows hold back, and forgets
//! the stream: complete responses within their client's allowance are handed over like that. Every other stream is
//! *held*: the library has one part at a time, and is given the end after the last part has left, so that the stream
//! can be reset individually. Each part of a complete response has `limits.send_timeout` to leave, plus time in
//! proportion to the client's unread bytes, which nothing renews; a streaming response has the same time from byte to
//! byte, until the function's time-out.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use bytes::{Buf, Bytes};
use hyper::rt::Executor;

use super::{Client, unsent::Reservation};
use service::micros;

/// Memory of a stream besides the bytes of its response: its request, its state and its task.
pub(super) const STREAM_BYTES: u64 = 16 * 1024;
/// Extra time for each unread byte on held streams: a client that reads 16 KiB per second gets all of them.
const US_PER_BYTE: u64 = 1_000_000 / (16 * 1024);

/// The outcome of a response that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Departure {
    /// The stream was reset.
    pub(super) cut: bool,
    /// All parts were read, as far as is known.
    pub(super) whole: bool,
}

/// One stream of a client.
pub(crate) struct Stream {
    client: Arc<Client>,
    /// Atomics, because each poll of the stream's task reads them.
    is_held: AtomicBool,
    is_cut: AtomicBool,
    /// Used by held streams. Locked only for a few instructions, also within the HTTP library's own lock.
    state: Mutex<State>,
}

/// Times are microseconds of the data plane's clock.
#[derive(Default)]
struct State {
    /// All bytes accounted to the stream.
    bytes: u64,
    /// Those of them that are no response bytes.
    fixed: u64,
    /// Time at which the HTTP library was given its current part; `None` if it has none.
    queued_us: Option<u64>,
    /// Deadline of the current part.
    until_us: u64,
    /// The function's time-out; `u64::MAX` once the response is complete.
    flows_until_us: u64,
    /// The response is complete.
    is_complete: bool,
    /// A part was dropped unread.
    lost: bool,
    /// Wakes the task that runs the stream.
    waker: Option<Waker>,
}

impl Stream {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, is_held: AtomicBool::new(false), is_cut: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Holds the stream from now on. Its response may take until `flows_until_us`.
    pub(super) fn hold(self: &Arc<Self>, flows_until_us: u64) {
        self.lock().flows_until_us = flows_until_us;
        self.is_held.store(true, Ordering::Relaxed);
        self.client.unsent.enter(self.clone());
    }

    /// Records that the response is complete.
    pub(super) fn set_complete(&self) {
        if !self.is_held() {
            return;
        }
        let mut state = self.lock();
        (state.is_complete, state.flows_until_us) = (true, u64::MAX);
        // A complete response gives up its permit, which bounded this memory so far: from now on the byte bound has to.
        state.fixed = STREAM_BYTES;
        self.count(&mut state, STREAM_BYTES);
        state.until_us = self.deadline_us(&state, self.client.plane.clock.now_us());
    }

    /// Accounts `bytes` of a held stream as given to the HTTP library; `waker` wakes the stream's task. Returns `None`
    /// if the stream was reset.
    pub(super) fn give(self: &Arc<Self>, bytes: Bytes, waker: &Waker) -> Option<Part> {
        let mut state = self.lock();
        if self.is_cut() {
            return None;
        }
        match &mut state.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        let now_us = self.client.plane.clock.now_us();
        state.queued_us = Some(now_us);
        let remaining = bytes.len() as u64;
        self.count(&mut state, remaining);
        self.client.unsent.parts.fetch_add(remaining, Ordering::Relaxed);
        state.until_us = self.deadline_us(&state, now_us);
        drop(state);
        // Without the lock: relief may reset this very stream.
        self.client.plane.unsent.relieve(self.client.limits(), now_us);
        Some(Part { bytes, accounting: Some(Accounting::Held { stream: self.clone(), remaining }) })
    }

    /// Deadline of a part given at `now_us`.
    fn deadline_us(&self, state: &State, now_us: u64) -> u64 {
        let rest_us = self.client.unsent.parts.load(Ordering::Relaxed).saturating_mul(US_PER_BYTE);
        let until_us = now_us.saturating_add(micros(self.client.limits().send_timeout)).saturating_add(rest_us);
        until_us.min(state.flows_until_us)
    }

    /// Returns true if the next part or the end may follow: the library has nothing of a held stream.
    pub(super) fn has_left(&self) -> bool {
        !self.is_held() || self.lock().queued_us.is_none()
    }

    /// Returns true if it was reset before its response has left.
    pub(super) fn must_end(&self) -> bool {
        self.is_cut() && !self.has_left()
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Returns true if the stream is held.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    /// Ends the accounting of the response.
    pub(super) fn end(&self) -> Departure {
        if !self.is_held() {
            return Departure { cut: false, whole: true };
        }
        let mut state = self.lock();
        let fixed = std::mem::take(&mut state.fixed);
        self.uncount(&mut state, fixed);
        let departure = Departure { cut: self.is_cut(), whole: state.queued_us.is_none() && !state.lost };
        drop(state);
        // Without the lock: `Unsent::beyond` takes the two locks in the other order.
        self.client.unsent.leave(self);
        departure
    }

    /// Resets the stream, unless everything given has left.
    pub(super) fn cut(&self) {
        self.cut_now(&self.lock());
    }

    /// Resets the stream if its deadline has passed at `now_us`; otherwise returns the deadline.
    pub(super) fn cut_if_late(&self, now_us: u64) -> Option<u64> {
        let state = self.lock();
        if state.queued_us.is_none() || self.is_cut() {
            return None;
        }
        if state.until_us > now_us {
            return Some(state.until_us);
        }
        self.cut_now(&state);
        None
    }

    /// Since when its part has waited, and the bytes that a reset would free; `None` if nothing waits.
    pub(super) fn waits(&self) -> Option<(u64, u64)> {
        let state = self.lock();
        let queued_us = state.queued_us.filter(|_| !self.is_cut())?;
        Some((queued_us, state.bytes))
    }

    fn cut_now(&self, state: &State) {
        if state.queued_us.is_none() || self.is_cut.swap(true, Ordering::Relaxed) {
            return;
        }
        self.client.unsent.cut.fetch_add(state.bytes, Ordering::Relaxed);
        self.client.plane.unsent.cut.fetch_add(state.bytes, Ordering::Relaxed);
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    /// Returns true if the stream has to end; called before each poll of its task. The response body has a timer that
    /// wakes the task at the function's time-out, but the body is not polled while the client reads nothing.
    fn is_late(&self) -> bool {
        if self.is_held() && !self.is_cut() {
            self.cut_if_late(self.client.plane.clock.now_us());
        }
        self.must_end()
    }

    /// Accounts `bytes` of a part as read by the client.
    fn on_taken(&self, bytes: u64) {
        let mut state = self.lock();
        self.client.unsent.parts.fetch_sub(bytes, Ordering::Relaxed);
        self.uncount(&mut state, bytes);
        if !state.is_complete {
            state.until_us = self.deadline_us(&state, self.client.plane.clock.now_us());
        }
    }

    /// Accounts the drop of a part with `remaining` unread bytes. The next part, or the end, may follow.
    fn on_released(&self, remaining: u64) {
        let mut state = self.lock();
        state.queued_us = None;
        state.lost |= remaining > 0;
        self.client.unsent.parts.fetch_sub(remaining, Ordering::Relaxed);
        self.uncount(&mut state, remaining);
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    fn count(&self, state: &mut State, bytes: u64) {
        state.bytes += bytes;
        self.client.unsent.held.fetch_add(bytes, Ordering::Relaxed);
        self.client.plane.unsent.held.fetch_add(bytes, Ordering::Relaxed);
        // A stream that was reset still holds its bytes until the library drops them; they no longer count as excess.
        if self.is_cut() {
            self.client.unsent.cut.fetch_add(bytes, Ordering::Relaxed);
            self.client.plane.unsent.cut.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn uncount(&self, state: &mut State, bytes: u64) {
        state.bytes -= bytes;
        self.client.unsent.held.fetch_sub(bytes, Ordering::Relaxed);
        self.client.plane.unsent.held.fetch_sub(bytes, Ordering::Relaxed);
        if self.is_cut() {
            self.client.unsent.cut.fetch_sub(bytes, Ordering::Relaxed);
            self.client.plane.unsent.cut.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a response on its way to the client.
pub(crate) struct Part {
    bytes: Bytes,
    /// Accounting until the HTTP library drops it. HTTP/2 only.
    accounting: Option<Accounting>,
}

enum Accounting {
    /// Accounted to its held stream, with `remaining` unread bytes.
    Held { stream: Arc<Stream>, remaining: u64 },
    /// Accounted to the client's allowance.
    Allowance { reservation: Reservation },
}

impl Part {
    pub(super) fn uncounted(bytes: Bytes) -> Self {
        Self { bytes, accounting: None }
    }

    /// The only part of a response whose stream may be forgotten.
    pub(super) fn last(bytes: Bytes, reservation: Reservation) -> Self {
        Self { bytes, accounting: Some(Accounting::Allowance { reservation }) }
    }

    fn on_taken(&mut self, count: usize) {
        if let Some(Accounting::Held { stream, remaining }) = &mut self.accounting {
            *remaining -= count as u64;
            stream.on_taken(count as u64);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        match &self.accounting {
            Some(Accounting::Held { stream, remaining }) => stream.on_released(*remaining),
            Some(Accounting::Allowance { reservation }) if self.bytes.has_remaining() => reservation.lose(),
            Some(Accounting::Allowance { .. }) | None => {}
        }
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
        self.on_taken(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        let copied = self.bytes.copy_to_bytes(length);
        self.on_taken(length);
        copied
    }
}

/// Runs the HTTP/2 streams of a client, each until its response has left or the stream has to end.
#[derive(Clone)]
pub(crate) struct Streams {
    client: Arc<Client>,
}

impl Streams {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        // The HTTP library calls the service, which leaves the stream there, just before.
        let Some(stream) = self.client.take_stream() else {
            tokio::spawn(task);
            return;
        };
        tokio::spawn(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let must_end = stream.is_late();
                // If the stream has to end, its body returns an error, on which the library resets the stream and drops
                // the part. If the library does not poll the body, ending the task drops it.
                match task.as_mut().poll(cx) {
                    Poll::Pending if !must_end => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            })
            .await;
        });
    }
}
