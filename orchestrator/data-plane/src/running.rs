//! An invocation that runs in a sandbox: its slot and its connection. However it ends, both are dealt with here.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use model::Protocol;
use tokio::time::Instant;

use crate::{
    function::Slot,
    upstream::{PendingWork, UpstreamConnection, close_lingering},
};

/// A running invocation. Dropping it means that nobody wants its answer any more: its slot then stays taken until the
/// sandbox has closed its side.
pub(crate) struct Running {
    /// `None` once it has ended.
    parts: Option<(Slot, UpstreamConnection)>,
    deadline: Instant,
}

impl Running {
    /// It runs over `link`, until `deadline` at most.
    pub(crate) fn new(slot: Slot, connection: UpstreamConnection, deadline: Instant) -> Self {
        Self { parts: Some((slot, connection)), deadline }
    }

    /// When the function's time-out passes.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Its slot.
    pub(crate) fn slot(&self) -> &Slot {
        &self.parts.as_ref().expect("only the methods that consume it empty it").0
    }

    /// Its connection.
    pub(crate) fn connection(&mut self) -> &mut UpstreamConnection {
        &mut self.parts.as_mut().expect("only the methods that consume it empty it").1
    }

    /// Moves bytes.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        // When the connection has ended, the answer or its body says how.
        let _ = self.connection().poll_drive(cx);
    }

    /// The sandbox has answered in full: the connection serves the next invocation, the slot is free.
    pub(crate) fn complete(mut self, cx: &mut Context<'_>) {
        let Some((slot, mut connection)) = self.parts.take() else { return };
        let sandbox = slot.sandbox();
        sandbox.responded();
        let ended = connection.poll_drive(cx).is_ready() || connection.is_ended();
        let plane = slot.plane();
        let now_us = plane.clock.now_us();
        if connection.is_ready() {
            sandbox.put_idle(connection, plane, now_us);
        } else if !ended {
            // It answered before it had the whole request: wait until it has stopped reading.
            close_lingering(connection, slot.into_abandoned(), PendingWork::None);
            return;
        }
        slot.release(now_us);
    }

    /// The same, outside a poll.
    pub(crate) async fn completed(self) {
        let mut running = Some(self);
        poll_fn(|cx| {
            if let Some(running) = running.take() {
                running.complete(cx);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The sandbox has answered in a way that cannot be read, or reset the stream.
    pub(crate) fn discard(mut self) {
        if let Some((slot, connection)) = self.parts.take() {
            // Over HTTP/2 the sandbox has reset the stream, or sees that this end has.
            let pending = match slot.sandbox().protocol() {
                Protocol::Http1 => PendingWork::UnreadableResponse { deadline: self.deadline },
                Protocol::H2c => PendingWork::None,
            };
            close_lingering(connection, slot.into_abandoned(), pending);
        }
    }

    /// No byte of it was sent: connection and slot are as before.
    pub(crate) fn unsent(mut self) -> Option<(Slot, UpstreamConnection)> {
        self.parts.take()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((slot, connection)) = self.parts.take() {
            close_lingering(connection, slot.into_abandoned(), PendingWork::Response { deadline: self.deadline });
        }
    }
}
