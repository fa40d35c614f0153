//! Whether the client of a request under way in HTTP/1.1 is still there.
//!
//! A client that has sent its request may close its side and wait for the response; one that has left has closed it as
//! well, and the network does not tell them apart. So such a client is sent an interim response (RFC 9110, section
//! 15.2), which the one ignores and the other's system answers with a reset. So is one whose bytes fill the buffers on the
//! way, while nobody reads them: that it closes could not be seen behind them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{Client, ClientSocket, socket::Presence};

/// A response that comes within this time needs no interim one before it.
const PROBE_DELAY: Duration = Duration::from_millis(50);
/// A reset is looked for after this time, then after twice as long each time, up to the longest.
const MIN_RESET_WAIT: Duration = Duration::from_millis(5);
const MAX_RESET_WAIT: Duration = Duration::from_secs(1);
/// One that fills the buffers is asked so often for each request, first after this time, then after so many times as long
/// each time: there are clients that take five interim responses before a response and no more, and one of them may be the
/// HTTP library's own.
const MAX_PROBES: u32 = 4;
const INITIAL_PROBE_DELAY: Duration = Duration::from_millis(500);
const PROBE_DELAY_FACTOR: u32 = 4;
/// A client that has closed its side, and can be sent no interim response, is waited for so long without a byte for it.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Watches over the presence of one client.
pub(crate) struct PresenceWatch {
    client: Arc<Client>,
    socket: ClientSocket,
    half_closed: Option<HalfClosed>,
    filling: Option<Filling>,
}

/// A client that may have filled the buffers with a body that nobody reads.
struct Filling {
    /// Which of its requests that is.
    request: u64,
    check: Pin<Box<Sleep>>,
    next_wait: Duration,
    probes: u32,
}

/// A client that has closed its side.
struct HalfClosed {
    check: Pin<Box<Sleep>>,
    next_wait: Duration,
    probed: bool,
    /// Writes that it took, and since when there was none.
    written: u64,
    silent_since: Instant,
}

impl PresenceWatch {
    /// That of `client`.
    pub(crate) fn new(client: Arc<Client>, socket: ClientSocket) -> Self {
        Self { client, socket, half_closed: None, filling: None }
    }

    /// Whether the client has left. Asked after each poll of the connection; the task is woken when it may have.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
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

    /// Asks a client that is hidden behind its own bytes whether it is there; true when that is impossible.
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
