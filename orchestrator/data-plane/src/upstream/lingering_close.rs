//! The end of an invocation whose client or time is gone: its slot stays taken until the sandbox closes its side.
//!
//! We close our side (the sandbox sees the end of the stream) and read until the sandbox closes its own, as [`Rest`] says
//! for how long. One that does not may still be running the invocation, so it is retired.

use std::{future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{Instant, sleep, timeout_at},
};

use super::{UpstreamConnection, monitored_io::MonitoredIo};
use crate::function::Slot;

/// Bytes read at once from an answer that nobody wants.
const DISCARD_BUFFER_BYTES: usize = 4096;

/// A server may send the end of its side just before it drops what it was running (hyper shuts the socket down first).
/// This much later it has done so, also when it was interrupted in between.
const RELEASE_DELAY: Duration = Duration::from_millis(20);

/// What is left of an invocation that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingWork {
    /// All or a part of the answer: it may still be running. A sandbox that runs nothing else has `cancel_grace` to close.
    /// In one that runs others it goes on in its slot, as if the client had stayed, until `deadline`, the function's
    /// time-out: retired sooner, each client that leaves would cost the others a sandbox.
    Response { deadline: Instant },
    /// An answer over HTTP/1.1 that cannot be read: what writes it may still be running. That is the function's fault and
    /// not the sandbox's, which keeps the slot until it closes, or until `deadline`; then it is retired.
    UnreadableResponse { deadline: Instant },
    /// A part of the request, which the sandbox has answered without; or nothing, after a stream that was reset. After
    /// `cancel_grace` the connection is broken off, and nobody is retired.
    None,
}

/// Ends what runs on `link` and keeps `slot` until the sandbox has closed it.
pub(crate) fn close_lingering(connection: UpstreamConnection, slot: Slot, pending: PendingWork) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        // The process ends: nobody can use the slot any more.
        return;
    };
    runtime.spawn(async move {
        let grace_ends = Instant::now() + slot.plane().config.cancel_grace;
        let until = match pending {
            PendingWork::Response { deadline } if slot.is_shared() => grace_ends.max(deadline),
            PendingWork::UnreadableResponse { deadline } => grace_ends.max(deadline),
            PendingWork::Response { .. } | PendingWork::None => grace_ends,
        };
        let (stream, handle) = connection.into_stream();
        let breaker = handle.clone();
        let closed = async {
            // An error here means that the stream was broken off and dropped: that side is closed as well.
            if let Ok(io) = stream.await
                // Still breakable, should the sandbox be declared gone meanwhile.
                && close(MonitoredIo::resume(io, handle)).await.is_ok_and(|was_awaited| was_awaited)
            {
                slot.sandbox().observed_alive(slot.plane().clock.now_us());
            }
        };
        match timeout_at(until, closed).await {
            Ok(()) => sleep(RELEASE_DELAY).await,
            // The HTTP/2 library may go on waiting for a stream that it has reset itself.
            Err(_elapsed) if pending == PendingWork::None => breaker.break_off(),
            Err(_elapsed) => slot.retire("it did not end a cancelled invocation in time"),
        }
    });
}

/// Ends our side, and reads until the sandbox has ended its own. Returns true if that was read as it came: nothing was there
/// that had not been read before, and nothing came before it. Behind what a client did not take it may have been for any time,
/// in the buffers of either machine: the sandbox's own sends its part once there is room here.
async fn close(mut io: MonitoredIo) -> io::Result<bool> {
    io.shutdown().await?;
    let mut discarded = [0; DISCARD_BUFFER_BYTES];
    let mut first = ReadBuf::new(&mut discarded);
    let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_read(cx, &mut first))).await;
    let mut was_awaited = read.is_pending();
    if let Poll::Ready(read) = read {
        read?;
        if first.filled().is_empty() {
            return Ok(false);
        }
    }
    while io.read(&mut discarded).await? > 0 {
        was_awaited = false;
    }
    Ok(was_awaited)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Whether the end of a sandbox's side was awaited behind `before`, which is here when the slot lingers, and `after`,
    /// which comes when all of that has been read.
    async fn was_awaited(before: &[u8], after: &[u8]) -> bool {
        let (mut sandbox, ours) = tokio::io::duplex(64);
        sandbox.write_all(before).await.unwrap();
        let mut closed = Box::pin(close(MonitoredIo::resume(Box::new(ours), Arc::default())));
        let is_over = poll_fn(|cx| Poll::Ready(closed.as_mut().poll(cx).is_ready())).await;
        assert!(!is_over, "the sandbox has not ended its side");
        sandbox.write_all(after).await.unwrap();
        drop(sandbox);
        closed.await.unwrap()
    }

    #[tokio::test]
    async fn only_an_end_before_which_nothing_is_read_was_awaited() {
        assert!(was_awaited(b"", b"").await);
        assert!(!was_awaited(b"rest", b"").await, "it may have been right behind that");
        assert!(
            !was_awaited(b"", b"rest").await,
            "that may have waited for room on the other machine, and the end with it"
        );
    }
}
