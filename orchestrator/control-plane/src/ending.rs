//! Admission and end of a peer's stream: the owner decides, and the stream tells the peer the reason of a refusal.

use std::sync::{Arc, OnceLock};

use service::LogLimiter;
use tokio::sync::oneshot;
use tonic::Status;

/// Reason for the end of a stream, sent in its last message. Shared by the owner and the stream.
#[derive(Clone, Default)]
pub(crate) struct Ending(Arc<OnceLock<Status>>);

impl Ending {
    /// The stream ends for this reason, unless there is one already.
    pub(crate) fn set(&self, status: Status) {
        let _ = self.0.set(status);
    }

    /// The reason, if the owner gave one.
    pub(crate) fn status(&self) -> Option<Status> {
        self.0.get().cloned()
    }
}

/// Logs the reasons for closed connections: once a minute for each peer and reason, since a refused peer tries again
/// and again.
#[derive(Default)]
pub(crate) struct Endings(LogLimiter);

impl Endings {
    /// A connection of a peer is ended.
    pub(crate) fn log(&mut self, part: &str, name: &str, reason: &str) {
        if self.0.should_log(&format!("{part} {name}"), reason) {
            tracing::warn!(part, name, reason, "closing a connection; repetitions are logged once a minute");
        }
    }
}

/// The owner's end of a peer's stream.
pub(crate) struct Peer<O> {
    /// Messages to the peer.
    pub(crate) outbox: O,
    pub(crate) ending: Ending,
    /// Sent when it is admitted; until then its stream is not read.
    pub(crate) admitted: Option<oneshot::Sender<()>>,
}

impl<O> Peer<O> {
    /// A peer that requests admission, and the receiver by which its stream learns the outcome: an error if it is
    /// refused.
    pub(crate) fn new(outbox: O, ending: Ending) -> (Self, oneshot::Receiver<()>) {
        let (admitted, is_admitted) = oneshot::channel();
        (Self { outbox, ending, admitted: Some(admitted) }, is_admitted)
    }

    /// Admits it, unless it is admitted already.
    pub(crate) fn admit(&mut self) {
        if let Some(admitted) = self.admitted.take() {
            // Its stream may have broken meanwhile.
            let _ = admitted.send(());
        }
    }
}
