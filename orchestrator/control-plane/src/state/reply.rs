//! Typed replies to operators' requests.

use std::fmt::{Debug, Formatter, Result};

use tokio::sync::oneshot::{self, Receiver, Sender};

/// Takes the response to one request.
pub(crate) struct Reply<T>(Sender<T>);

/// A response, to be delivered with the other effects.
pub(crate) struct Response(Box<dyn FnOnce() + Send>);

impl<T: Send + 'static> Reply<T> {
    pub(crate) fn channel() -> (Self, Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// The response, to be delivered with the other effects.
    pub(super) fn with(self, value: T) -> Response {
        // The operator may have disconnected.
        Response(Box::new(move || drop(self.0.send(value))))
    }
}

impl Response {
    pub(crate) fn deliver(self) {
        (self.0)();
    }
}

impl<T> Debug for Reply<T> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        formatter.write_str("Reply")
    }
}

impl Debug for Response {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        formatter.write_str("Response")
    }
}
