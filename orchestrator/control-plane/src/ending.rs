//! How a peer's stream begins and ends, as the owner decides: the peer is let in, or told why not.

use std::sync::{Arc, OnceLock};

use service::LogLimiter;
use tokio::sync::oneshot;
use tonic::Status;

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

/// Logs why connections are ended: once a minute for each peer and reason, since who is refused asks again and again.
#[derive(Default)]
pub(crate) struct Endings(LogLimiter);

impl Endings {
    /// A connection of a peer is ended.
    pub(crate) fn log(&mut self, part: &str, name: &str, reason: &str) {
        if self.0.should_log(&format!("{part} {name}"), reason) {
            tracing::warn!(part, name, reason, "closing a connection; the same is said again after a minute");
        }
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
