//! How a peer's stream begins and ends, as the owner decides: the peer is let in, or told why not.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tonic::Status;

/// A peer that is refused asks again and again: for how long the same reason is not logged again.
const QUIET: Duration = Duration::from_secs(60);
/// Peers of which the log's newest reason is remembered, at most; beyond that each refusal is logged.
const MAX_REMEMBERED: usize = 4096;

/// Why a stream ends, said in its last message. Shared by the owner and the stream.
#[derive(Clone, Default)]
pub(crate) struct Ending(Arc<OnceLock<Status>>);

impl Ending {
    /// The stream ends for this reason, unless there is one already.
    pub(crate) fn set(&self, status: Status) {
        let _ = self.0.set(status);
    }

    /// Why it ends, if there is a reason.
    pub(crate) fn status(&self) -> Option<Status> {
        self.0.get().cloned()
    }
}

/// Logs why connections are ended: once a minute for each peer and reason.
#[derive(Default)]
pub(crate) struct Endings(BTreeMap<String, (String, Instant)>);

impl Endings {
    /// A connection of a peer is ended.
    pub(crate) fn tell(&mut self, part: &str, name: &str, reason: &str) {
        if self.is_due(format!("{part} {name}"), reason) {
            tracing::warn!(part, name, reason, "closing a connection; the same is said again after a minute");
        }
    }

    fn is_due(&mut self, peer: String, reason: &str) -> bool {
        let now = Instant::now();
        if self.0.get(&peer).is_some_and(|(last, at)| last == reason && now.duration_since(*at) < QUIET) {
            return false;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, (_, at)| now.duration_since(*at) < QUIET);
        }
        if self.0.len() < MAX_REMEMBERED || self.0.contains_key(&peer) {
            self.0.insert(peer, (reason.to_owned(), now));
        }
        true
    }
}

/// A peer's place at the owner.
pub(crate) struct Peer<O> {
    /// What it is to be told.
    pub(crate) outbox: O,
    pub(crate) ending: Ending,
    /// Sent when it is let in: before that nothing is read of what it says.
    pub(crate) admitted: Option<oneshot::Sender<()>>,
}

impl<O> Peer<O> {
    /// A peer that asks to be let in, and how its stream learns that it was: the sender is dropped if it is not.
    pub(crate) fn new(outbox: O, ending: Ending) -> (Self, oneshot::Receiver<()>) {
        let (admitted, is_admitted) = oneshot::channel();
        (Self { outbox, ending, admitted: Some(admitted) }, is_admitted)
    }

    /// It is let in; nothing new when it was before.
    pub(crate) fn admit(&mut self) {
        if let Some(admitted) = self.admitted.take() {
            // Its stream may have broken meanwhile.
            let _ = admitted.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_logged_once_a_minute_for_each_peer_and_more_peers_than_are_remembered_each_time() {
        let mut endings = Endings::default();
        let due = |endings: &mut Endings, peer: &str, reason: &str| endings.is_due(peer.to_owned(), reason);
        assert!(due(&mut endings, "worker a", "x") && due(&mut endings, "worker b", "x"));
        assert!(!due(&mut endings, "worker a", "x"));
        assert!(due(&mut endings, "worker a", "y"));
        advance(QUIET).await;
        assert!(due(&mut endings, "worker a", "y"));
        let names = || (0..MAX_REMEMBERED).map(|number| format!("worker {number}"));
        assert!(names().all(|name| due(&mut endings, &name, "x")));
        assert!(due(&mut endings, "one more", "x") && due(&mut endings, "one more", "x"));
        assert_eq!(endings.0.len(), MAX_REMEMBERED);
        advance(QUIET).await;
        assert!(due(&mut endings, "one more", "x") && !due(&mut endings, "one more", "x"));
    }
}
