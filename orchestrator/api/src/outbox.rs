//! What waits to be sent to one peer: the newest state per sandbox or function, bounded by their number.
//!
//! Senders change the batch under a short lock; the writer takes all of it when the connection is free. So a slow
//! peer costs memory proportional to what it must know, never to how often that changed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::Stream;

/// A batch under construction.
pub trait Batch: Send + 'static {
    /// What it becomes on the wire.
    type Message: Send;

    /// Takes what should go out next, at most one message of bounded size; `None` when nothing waits.
    fn take(&mut self) -> Option<Self::Message>;
}

/// The sending side. Clones share the batch.
pub struct Outbox<B> {
    shared: Arc<Mutex<Shared<B>>>,
}

struct Shared<B> {
    batch: B,
    /// The writer, while it waits for something to send.
    writer: Option<Waker>,
    closed: bool,
}

/// The messages of an outbox, for the connection that sends them. Ends when the outbox is closed and empty.
pub struct OutboxMessages<B> {
    shared: Arc<Mutex<Shared<B>>>,
}

impl<B: Batch> Outbox<B> {
    /// An outbox around `batch`, which may already hold something, and its messages.
    pub fn new(batch: B) -> (Self, OutboxMessages<B>) {
        let shared = Arc::new(Mutex::new(Shared { batch, writer: None, closed: false }));
        (Self { shared: shared.clone() }, OutboxMessages { shared })
    }

    /// Changes the batch and wakes the writer.
    pub fn update<T>(&self, change: impl FnOnce(&mut B) -> T) -> T {
        let mut shared = lock(&self.shared);
        let result = change(&mut shared.batch);
        let writer = shared.writer.take();
        drop(shared);
        if let Some(writer) = writer {
            writer.wake();
        }
        result
    }

    /// Reads the batch, or changes in it what is not to be sent; the writer is not woken.
    pub fn inspect<T>(&self, read: impl FnOnce(&mut B) -> T) -> T {
        read(&mut lock(&self.shared).batch)
    }

    /// Ends the messages once what waits has been sent.
    pub fn close(&self) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        if let Some(writer) = shared.writer.take() {
            writer.wake();
        }
    }

    /// Whether it was closed, or its connection is no more.
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

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Message>> {
        let mut shared = lock(&self.shared);
        if let Some(message) = shared.batch.take() {
            return Poll::Ready(Some(message));
        }
        if shared.closed {
            return Poll::Ready(None);
        }
        shared.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<B> Drop for OutboxMessages<B> {
    fn drop(&mut self) {
        lock(&self.shared).closed = true;
    }
}

/// A batch is plain data that every change leaves whole, so a panic elsewhere does not make it unusable.
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
    async fn what_is_ready_goes_out_as_one_message_with_the_newest_state() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        for value in 0..10 {
            outbox.update(|batch| batch.0.insert(1, value));
        }
        outbox.update(|batch| batch.0.insert(2, 7));
        assert_eq!(messages.next().await, Some(vec![(1, 9), (2, 7)]));
        outbox.close();
        assert_eq!(messages.next().await, None);
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
