//! An invocation that runs in a sandbox: its slot and its connection, both released here however it ends.

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

/// A running invocation. Dropping it abandons the invocation: its slot stays in use until the sandbox has closed its
/// side of the connection.
pub(crate) struct Running {
    /// `None` once it was consumed.
    parts: Option<(Slot, UpstreamConnection)>,
    deadline: Instant,
}

impl Running {
    /// Runs over `connection`, until `deadline` at most.
    pub(crate) fn new(slot: Slot, connection: UpstreamConnection, deadline: Instant) -> Self {
        Self { parts: Some((slot, connection)), deadline }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.parts.as_ref().expect("only the methods that consume it empty it").0
    }

    pub(crate) fn connection(&mut self) -> &mut UpstreamConnection {
        &mut self.parts.as_mut().expect("only the methods that consume it empty it").1
    }

    /// Drives the connection's I/O.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        // An error of the connection surfaces in the response or its body.
        let _ = self.connection().poll_drive(cx);
    }

    /// Ends an invocation with a complete response: keeps the connection for the next invocation and releases the slot.
    pub(crate) fn complete(mut self, cx: &mut Context<'_>) {
        let Some((slot, mut connection)) = self.parts.take() else { return };
        let sandbox = slot.sandbox();
        sandbox.responded();
        // The close of the connection may be readable together with the end of the response.
        let ended = connection.poll_drive(cx).is_ready() || connection.is_ended();
        let plane = slot.plane();
        let now_us = plane.clock.now_us();
        if connection.is_ready() {
            sandbox.put_idle(connection, plane, now_us);
        } else if !ended {
            // It responded before it had the whole request: wait until it has stopped reading.
            close_lingering(connection, slot.into_abandoned(), PendingWork::None);
            return;
        }
        slot.release(now_us);
    }

    /// As [`Self::complete`], for async code.
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

    /// Ends an invocation whose response is unreadable or whose stream was reset.
    pub(crate) fn discard(mut self) {
        if let Some((slot, connection)) = self.parts.take() {
            // Over HTTP/2 either side has reset the stream, so nothing runs any more.
            let pending = match slot.sandbox().protocol() {
                Protocol::Http1 => PendingWork::UnreadableResponse { deadline: self.deadline },
                Protocol::H2c => PendingWork::None,
            };
            close_lingering(connection, slot.into_abandoned(), pending);
        }
    }

    /// Takes slot and connection back from an invocation of which nothing was sent.
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
