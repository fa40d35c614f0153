//! Keeps a session with one of several control planes: which address is next, how long to wait, and which ends are logged.
//!
//! The loop itself is the component's, since what a session is and what its end means belong to the protocol.

use std::time::Duration;

use tracing::warn;

use crate::{Backoff, LogLimiter};

/// The end of a session with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// The session was established, and was lost later.
    Lost,
    /// The session could not be established.
    Failed,
    /// The peer responded and does not accept this component. The reason usually lasts until somebody changes a
    /// configuration.
    Refused,
}

/// The addresses to try, and the delays between the attempts.
#[derive(Debug)]
pub struct Reconnect<'a> {
    addresses: &'a [String],
    /// Number of attempts so far.
    attempts: usize,
    backoff: Backoff,
    /// Upper bound of delays after a refusal.
    max_refused: Duration,
    log_limiter: LogLimiter,
}

impl<'a> Reconnect<'a> {
    /// Tries `addresses` in turn, of which there must be one at least. Delays follow `backoff`; after a refusal they may
    /// grow to `max_refused`.
    #[must_use]
    pub fn new(addresses: &'a [String], backoff: Backoff, max_refused: Duration) -> Self {
        debug_assert!(!addresses.is_empty(), "the configuration requires an address");
        Self { addresses, attempts: 0, backoff, max_refused, log_limiter: LogLimiter::default() }
    }

    /// Returns the address of the next attempt.
    pub fn next_address(&mut self) -> &'a str {
        let address = &self.addresses[self.attempts % self.addresses.len()];
        self.attempts += 1;
        address
    }

    /// Logs the end of the session with `address`, unless it repeats an earlier one, and returns the delay before the next
    /// attempt. It is zero as long as an address has not been tried in this round: the leader may be there.
    pub fn on_end(&mut self, address: &str, end: SessionEnd, reason: &str) -> Duration {
        if end == SessionEnd::Lost {
            self.backoff.reset();
            self.log_limiter.clear();
            warn!(control_plane = %address, cause = %reason, "the control plane is gone");
        } else if self.log_limiter.should_log(address, reason) {
            warn!(
                control_plane = %address,
                cause = %reason,
                "no stream to the control plane (--control-plane, control_planes), trying again"
            );
        }
        if !self.attempts.is_multiple_of(self.addresses.len()) {
            return Duration::ZERO;
        }
        match end {
            SessionEnd::Lost | SessionEnd::Failed => self.backoff.next_delay(),
            SessionEnd::Refused => self.backoff.next_delay_below(self.max_refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_address_is_tried_before_a_delay() {
        let addresses = ["a:1".to_owned(), "b:1".to_owned()];
        let mut reconnect = Reconnect::new(&addresses, Backoff::new(ms(10), ms(40), 1), ms(5000));
        let mut rounds = Vec::new();
        for _ in 0..8 {
            let address = reconnect.next_address();
            rounds.push((address, reconnect.on_end(address, SessionEnd::Failed, "refused")));
        }
        for (round, bound) in rounds.chunks(2).zip([10, 20, 40, 40]) {
            assert_eq!(round[0], ("a:1", Duration::ZERO));
            assert!(round[1].0 == "b:1" && (ms(bound) / 2..ms(bound)).contains(&round[1].1), "{round:?}");
        }
    }

    #[test]
    fn delays_grow_further_while_refused_and_begin_anew_after_a_session() {
        let addresses = ["a:1".to_owned()];
        let mut reconnect = Reconnect::new(&addresses, Backoff::new(ms(10), ms(40), 1), ms(100));
        let ends =
            [SessionEnd::Refused; 6].into_iter().chain([SessionEnd::Failed, SessionEnd::Lost, SessionEnd::Failed]);
        for (end, bound) in ends.zip([10, 20, 40, 80, 100, 100, 40, 10, 20]) {
            let delay = reconnect.on_end(reconnect.addresses[0].as_str(), end, "reason");
            assert!((ms(bound) / 2..ms(bound)).contains(&delay), "{end:?}: {delay:?} of {bound} ms");
        }
    }
}
