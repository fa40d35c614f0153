//! Detects whether the client of an HTTP/1.1 request under way is still there.
//!
//! A client may close its write side after its request and wait for the response; one that has left has closed it as
//! well, and the network does not distinguish them. So such a client is sent an interim response (RFC 9110, section
//! 15.2): a waiting client ignores it, and the operating system of one that left responds with a reset. The same probe
//! is used for a client whose unread bytes fill the buffers on the way, because its close would be hidden behind them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{Client, ClientSocket, socket::Presence};

/// Delay before the probe: a faster response needs none before it.
const PROBE_DELAY: Duration = Duration::from_millis(50);
/// First and longest wait for a reset after a probe; the wait doubles in between.
const MIN_RESET_WAIT: Duration = Duration::from_millis(5);
const MAX_RESET_WAIT: Duration = Duration::from_secs(1);
/// Probes of a client that fills the buffers, per request: first after this delay, then with delays that grow by this
/// factor. Some clients accept at most five interim responses before a response, and one of them may be sent by the
/// HTTP library itself.
const MAX_PROBES: u32 = 4;
const INITIAL_PROBE_DELAY: Duration = Duration::from_millis(500);
const PROBE_DELAY_FACTOR: u32 = 4;
/// A half-closed client that can be sent no interim response is dropped after this time without progress.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Watches the presence of one client.
pub(crate) struct PresenceWatch {
    client: Arc<Client>,
    socket: ClientSocket,
    half_closed: Option<HalfClosed>,
    filling: Option<Filling>,
}

/// A client whose unread body may have filled the buffers.
struct Filling {
    /// Number of the request with that body.
    request: u64,
    check: Pin<Box<Sleep>>,
    next_wait: Duration,
    probes: u32,
}

/// A client that has closed its write side.
struct HalfClosed {
    check: Pin<Box<Sleep>>,
    next_wait: Duration,
    probed: bool,
    /// Bytes written, and since when the number has not changed.
    written: u64,
    silent_since: Instant,
}

impl PresenceWatch {
    pub(crate) fn new(client: Arc<Client>, socket: ClientSocket) -> Self {
        Self { client, socket, half_closed: None, filling: None }
    }

    /// Returns true if the client has left. Called after each poll of the connection; the task is woken when the result
    /// may have changed.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        // The HTTP library reads from the client and sees a close itself.
        if !self.client.is_out_of_sight() {
            self.half_closed = None;
            return false;
        }
        match self.socket.poll_presence(cx) {
            Presence::Here => self.poll_filling(cx),
            Presence::Gone => true,
            Presence::HalfClosed => self.poll_half_closed(cx),
        }
    }

    /// Probes a client that is hidden behind its own bytes. Returns true if that fails.
    fn poll_filling(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { client, socket, filling, .. } = self;
        if !client.has_unread_upload() || !socket.hides_bytes() {
            return false;
        }
        let request = client.requests();
        if filling.as_ref().is_some_and(|filling| filling.request != request) {
            *filling = None;
        }
        let state = filling.get_or_insert_with(|| Filling::new(request));
        while state.probes < MAX_PROBES && state.check.as_mut().poll(cx).is_ready() {
            if client.may_be_sent_interim() && socket.is_filled() {
                state.probes += 1;
                if !socket.send_interim() {
                    return true;
                }
                state.next_wait *= PROBE_DELAY_FACTOR;
            }
            state.check.as_mut().reset(Instant::now() + state.next_wait);
        }
        false
    }

    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { client, socket, half_closed, .. } = self;
        let state = half_closed.get_or_insert_with(|| HalfClosed::new(client.written()));
        while let Poll::Ready(()) = state.check.as_mut().poll(cx) {
            if !state.probed && client.may_be_sent_interim() {
                state.probed = true;
                if !socket.send_interim() {
                    return true;
                }
            }
            if !state.probed && state.is_silent(client.written()) {
                return true;
            }
            // By timer, because the runtime reports nothing more about a socket whose close it has reported.
            state.check.as_mut().reset(Instant::now() + state.next_wait);
            state.next_wait = (state.next_wait * 2).min(MAX_RESET_WAIT);
        }
        false
    }
}

impl Filling {
    fn new(request: u64) -> Self {
        Self { request, check: Box::pin(sleep(INITIAL_PROBE_DELAY)), next_wait: INITIAL_PROBE_DELAY, probes: 0 }
    }
}

impl HalfClosed {
    fn new(written: u64) -> Self {
        let check = Box::pin(sleep(PROBE_DELAY));
        Self { check, next_wait: MIN_RESET_WAIT, probed: false, written, silent_since: Instant::now() }
    }

    fn is_silent(&mut self, written: u64) -> bool {
        if written != std::mem::replace(&mut self.written, written) {
            self.silent_since = Instant::now();
        }
        self.silent_since.elapsed() >= SILENCE_TIMEOUT
    }
}
