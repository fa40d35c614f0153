//! The lingering close of a connection whose invocation was abandoned: its slot stays in use until the sandbox closes
//! its side.
//!
//! The write side is shut down, which the sandbox sees as end of stream, and input is discarded until the sandbox
//! closes; [`PendingWork`] says for how long. A sandbox that does not close may still be running the invocation, so it
//! is retired.

use std::{future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{Instant, sleep, timeout_at},
};

use super::{UpstreamConnection, monitored_io::MonitoredIo};
use crate::function::Slot;

/// Bytes discarded by one read.
const DISCARD_BUFFER_BYTES: usize = 4096;

/// A server may close its side just before it drops the running invocation (hyper shuts the socket down first). After
/// this delay it has done so, even if it was preempted in between.
const RELEASE_DELAY: Duration = Duration::from_millis(20);

/// Work that the sandbox may still be doing for an abandoned invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingWork {
    /// The response is incomplete, so the invocation may still be running. A sandbox that runs nothing else has
    /// `cancel_grace` to close. In a shared one the invocation continues in its slot as if the client had stayed, until
    /// `deadline`, the function's time-out: if such sandboxes were retired sooner, each client that leaves would cost
    /// the others a sandbox.
    Response { deadline: Instant },
    /// The response over HTTP/1.1 is unreadable, and its writer may still be running. That is the function's fault and
    /// not the sandbox's, so the slot stays in use until the sandbox closes, or until `deadline`; then the sandbox is
    /// retired.
    UnreadableResponse { deadline: Instant },
    /// Nothing runs: the sandbox responded before it had the whole request, or the stream was reset. After
    /// `cancel_grace` the connection is aborted and the sandbox stays.
    None,
}

/// Cancels what runs on `connection` and keeps `slot` in use until the sandbox has closed its side.
pub(crate) fn close_lingering(connection: UpstreamConnection, slot: Slot, pending: PendingWork) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        // Without a runtime the process is ending, and the slot cannot be used any more.
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
            // An error means that the stream was aborted and dropped, so that side is closed as well.
            if let Ok(io) = stream.await
                // The handle stays usable, in case the sandbox is declared gone meanwhile.
                && close(MonitoredIo::resume(io, handle)).await.is_ok_and(|was_awaited| was_awaited)
            {
                slot.sandbox().observed_alive(slot.plane().clock.now_us());
            }
        };
        match timeout_at(until, closed).await {
            Ok(()) => sleep(RELEASE_DELAY).await,
            // The HTTP/2 library may keep waiting for a stream that it has reset itself.
            Err(_elapsed) if pending == PendingWork::None => breaker.break_off(),
            Err(_elapsed) => slot.retire("it did not end a cancelled invocation in time"),
        }
    });
}

/// Shuts down the write side and discards input until the sandbox closes. Returns true if the close was read as it
/// arrived: no unread input was there before it. Behind unread input the close may have been in the buffers of either
/// machine for any time, because the kernel sends the rest only when there is space here.
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

    /// Returns true if the close of a sandbox was awaited behind `before`, which is there when the lingering close
    /// starts, and `after`, which arrives once all of that was read.
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
    async fn only_a_close_without_input_before_it_was_awaited() {
        assert!(was_awaited(b"", b"").await);
        assert!(!was_awaited(b"rest", b"").await, "it may have been right behind that");
        assert!(
            !was_awaited(b"", b"rest").await,
            "that may have waited for room on the other machine, and the end with it"
        );
    }
}
