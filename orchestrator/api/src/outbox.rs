//! Outbox of one peer: the newest unsent state per sandbox or function, bounded by their number.
//!
//! Senders change the batch under a short lock; the writer takes all of it when the connection is free. A slow peer
//! therefore costs memory proportional to its state, not to the number of changes.
//!
//! Changes that nobody waits for, such as acknowledgements, are deferred: they travel with the next urgent change, or
//! alone after two milliseconds, because the fixed cost of a message exceeds that of its entries.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use tokio::time::{Instant, Sleep, sleep};

/// Maximum time for which a deferred change waits for an urgent one.
const MAX_DELAY: Duration = Duration::from_millis(2);

/// A batch under construction.
pub trait Batch: Send + 'static {
    /// The wire message that the batch becomes.
    type Message: Send;

    /// Takes the next message, of bounded size; `None` when the batch is empty.
    fn take(&mut self) -> Option<Self::Message>;
}

/// The sending side of a stream. Clones share the batch.
pub struct Outbox<B> {
    shared: Arc<Mutex<Shared<B>>>,
}

struct Shared<B> {
    batch: B,
    /// The writer's task, while it waits for a change.
    writer: Option<Waker>,
    pending: Pending,
    closed: bool,
    /// Closed, and unsent changes are discarded.
    aborted: bool,
}

/// Urgency of the unsent changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    /// There are none.
    Nothing,
    /// Only deferred changes, for which the writer has set no timer yet.
    Deferred,
    /// Only deferred changes, and the writer's timer runs.
    Delayed,
    /// At least one change is to be sent at once.
    Urgent,
}

/// The stream of an outbox's messages, for the connection that sends them. Ends when the outbox is closed and empty.
pub struct OutboxMessages<B> {
    shared: Arc<Mutex<Shared<B>>>,
    /// Timer of deferred changes; allocated at the first one and reused.
    delay: Option<Pin<Box<Sleep>>>,
}

impl<B: Batch> Outbox<B> {
    /// Creates an outbox around `batch`, which need not be empty, and the stream of its messages.
    pub fn new(batch: B) -> (Self, OutboxMessages<B>) {
        // Urgent at first, because the batch may hold something, such as the hello.
        let shared = Shared { batch, writer: None, pending: Pending::Urgent, closed: false, aborted: false };
        let shared = Arc::new(Mutex::new(shared));
        (Self { shared: shared.clone() }, OutboxMessages { shared, delay: None })
    }

    /// Makes an urgent change: the batch is sent as soon as the connection is free.
    pub fn update<T>(&self, change: impl FnOnce(&mut B) -> T) -> T {
        self.put(Pending::Urgent, change)
    }

    /// Makes a deferred change: it is sent with the next urgent one, or within two milliseconds.
    pub fn update_deferred<T>(&self, change: impl FnOnce(&mut B) -> T) -> T {
        self.put(Pending::Deferred, change)
    }

    fn put<T>(&self, pending: Pending, change: impl FnOnce(&mut B) -> T) -> T {
        let mut shared = lock(&self.shared);
        let result = change(&mut shared.batch);
        if pending == Pending::Deferred && shared.pending != Pending::Nothing {
            // The writer has already been woken, or its timer runs.
            return result;
        }
        shared.pending = pending;
        let writer = shared.writer.take();
        // Woken without the lock, because the writer takes it at once.
        drop(shared);
        if let Some(writer) = writer {
            writer.wake();
        }
        result
    }

    /// Reads the batch, or changes parts of it that are not sent. The writer is not woken.
    pub fn inspect<T>(&self, read: impl FnOnce(&mut B) -> T) -> T {
        read(&mut lock(&self.shared).batch)
    }

    /// Ends the stream of messages once all changes have been sent.
    pub fn close(&self) {
        self.end(false);
    }

    /// Ends the stream of messages at once and discards unsent changes. Needed for a connection that is closed by this
    /// end: it is not released before its stream of messages ends.
    pub fn abort(&self) {
        self.end(true);
    }

    fn end(&self, at_once: bool) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        shared.aborted |= at_once;
        if let Some(writer) = shared.writer.take() {
            writer.wake();
        }
    }

    /// Returns true if the outbox was closed, or its connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        lock(&self.shared).closed
    }
}

impl<B> Clone for Outbox<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B: Batch> Stream for OutboxMessages<B> {
    type Item = B::Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Message>> {
        let Self { shared, delay } = &mut *self;
        let mut shared = lock(shared);
        if shared.aborted {
            return Poll::Ready(None);
        }
        if !shared.closed && !is_due(&mut shared.pending, delay, cx) {
            shared.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = shared.batch.take() {
            // The batch may hold more than one message.
            shared.pending = Pending::Urgent;
            return Poll::Ready(Some(message));
        }
        shared.pending = Pending::Nothing;
        if shared.closed {
            return Poll::Ready(None);
        }
        shared.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Returns true if changes are to be sent now. Otherwise the timer will wake the writer if changes are deferred.
fn is_due(pending: &mut Pending, delay: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    match *pending {
        Pending::Urgent => return true,
        Pending::Nothing => return false,
        Pending::Deferred => {
            *pending = Pending::Delayed;
            match delay {
                Some(delay) => delay.as_mut().reset(Instant::now() + MAX_DELAY),
                None => *delay = Some(Box::pin(sleep(MAX_DELAY))),
            }
        }
        Pending::Delayed => {}
    }
    delay.as_mut().is_none_or(|delay| delay.as_mut().poll(cx).is_ready())
}

impl<B> Drop for OutboxMessages<B> {
    fn drop(&mut self) {
        // The connection has ended: senders learn from this that nobody reads their changes.
        lock(&self.shared).closed = true;
    }
}

/// Ignores poisoning: a batch is plain data that is consistent after each step of a change.
fn lock<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::StreamExt;

    use super::*;

    #[derive(Default)]
    struct Newest(BTreeMap<u32, u32>);

    impl Batch for Newest {
        type Message = Vec<(u32, u32)>;

        fn take(&mut self) -> Option<Self::Message> {
            (!self.0.is_empty()).then(|| std::mem::take(&mut self.0).into_iter().collect())
        }
    }

    #[tokio::test]
    async fn all_changes_are_sent_as_one_message_with_the_newest_state() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        for value in 0..10 {
            outbox.update(|batch| batch.0.insert(1, value));
        }
        outbox.update(|batch| batch.0.insert(2, 7));
        assert_eq!(messages.next().await, Some(vec![(1, 9), (2, 7)]));
        outbox.close();
        assert_eq!(messages.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deferred_change_is_delayed_alone_and_sent_with_an_urgent_one() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        let start = Instant::now();
        let later = outbox.clone();
        tokio::spawn(async move {
            for value in 1..=2 {
                sleep(MAX_DELAY / 2).await;
                later.update_deferred(|batch| batch.0.insert(1, value));
            }
        });
        // The second change does not extend the delay of the first.
        assert_eq!(messages.next().await, Some(vec![(1, 2)]));
        assert_eq!(start.elapsed(), MAX_DELAY + MAX_DELAY / 2);
        outbox.update_deferred(|batch| batch.0.insert(1, 5));
        outbox.update(|batch| batch.0.insert(2, 7));
        outbox.update_deferred(|batch| batch.0.insert(3, 9));
        let start = Instant::now();
        assert_eq!(messages.next().await, Some(vec![(1, 5), (2, 7), (3, 9)]));
        assert_eq!(start.elapsed(), Duration::ZERO);
        outbox.update_deferred(|batch| batch.0.insert(1, 6));
        outbox.close();
        assert_eq!((messages.next().await, messages.next().await), (Some(vec![(1, 6)]), None));
        assert_eq!(start.elapsed(), Duration::ZERO, "close does not wait for the delay");
    }

    #[tokio::test]
    async fn an_aborted_outbox_ends_at_once_and_discards_its_changes() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        let mut writer = Box::pin(async move { (messages.next().await, messages) });
        assert!(futures::poll!(writer.as_mut()).is_pending());
        outbox.inspect(|batch| batch.0.insert(1, 1));
        outbox.abort();
        let (message, mut messages) = writer.await;
        assert_eq!((message, messages.next().await), (None, None));
        assert!(outbox.is_closed());
    }

    #[tokio::test]
    async fn a_waiting_writer_is_woken() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        let writer = tokio::spawn(async move { messages.next().await });
        tokio::task::yield_now().await;
        outbox.update(|batch| batch.0.insert(1, 1));
        assert_eq!(writer.await.unwrap(), Some(vec![(1, 1)]));
        assert!(outbox.is_closed(), "its messages were dropped");
    }
}
