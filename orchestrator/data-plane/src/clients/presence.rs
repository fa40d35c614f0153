//! Whether the client of a request under way in HTTP/1.1 is still there.
//!
//! A client that has sent its request may close its side and wait for the response; one that has left has closed it as
//! well, and the network does not tell them apart. So such a client is sent an interim response (RFC 9110, section
//! 15.2), which the one ignores and the other's system answers with a reset.

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
/// A client that has closed its side, and can be sent no interim response, is waited for so long without a byte for it.
const MAX_SILENCE: Duration = Duration::from_secs(5);

/// Watches over the presence of one client.
pub(crate) struct PresenceWatch {
    client: Arc<Client>,
    socket: ClientSocket,
    half_closed: Option<HalfClosed>,
}

/// A client that has closed its side.
struct HalfClosed {
    look: Pin<Box<Sleep>>,
    next_wait: Duration,
    probed: bool,
    /// Writes that it took, and since when there was none.
    writes: u64,
    silent_since: Instant,
}

impl PresenceWatch {
    /// That of `client`.
    pub(crate) fn new(client: Arc<Client>, socket: ClientSocket) -> Self {
        Self { client, socket, half_closed: None }
    }

    /// Whether the client has left. Asked after each poll of the connection; the task is woken when it may have.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.client.is_out_of_sight() {
            self.half_closed = None;
            return false;
        }
        match self.socket.poll_presence(cx) {
            Presence::Here => false,
            Presence::Gone => true,
            Presence::HalfClosed => self.poll_half_closed(cx),
        }
    }

    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> bool {
        let Self { client, socket, half_closed } = self;
        let state = half_closed.get_or_insert_with(|| HalfClosed::new(client.writes()));
        while let Poll::Ready(()) = state.look.as_mut().poll(cx) {
            if !state.probed && client.may_be_sent_interim() {
                state.probed = true;
                if !socket.send_interim() {
                    return true;
                }
            }
            if !state.probed && state.is_silent(client.writes()) {
                return true;
            }
            state.look.as_mut().reset(Instant::now() + state.next_wait);
            state.next_wait = (state.next_wait * 2).min(MAX_RESET_WAIT);
        }
        false
    }
}

impl HalfClosed {
    fn new(writes: u64) -> Self {
        let look = Box::pin(sleep(PROBE_DELAY));
        Self { look, next_wait: MIN_RESET_WAIT, probed: false, writes, silent_since: Instant::now() }
    }

    fn is_silent(&mut self, writes: u64) -> bool {
        if writes != std::mem::replace(&mut self.writes, writes) {
            self.silent_since = Instant::now();
        }
        self.silent_since.elapsed() >= MAX_SILENCE
    }
}
