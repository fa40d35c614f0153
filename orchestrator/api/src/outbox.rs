//! What waits to be sent to one peer: the newest state per sandbox or function, bounded by their number.
//!
//! Senders change the batch under a short lock; the writer takes all of it when the connection is free. So a slow
//! peer costs memory proportional to what it must know, never to how often that changed.
//!
//! Nobody waits for some of it, such as an acknowledgement. That goes out with the next thing that somebody waits for, or
//! alone after two milliseconds: a message costs both ends more than anything in it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use tokio::time::{Instant, Sleep, sleep};

/// What nobody waits for goes out after this time at the latest.
const LINGER: Duration = Duration::from_millis(2);

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
    /// What waits, if anything does.
    waiting: Waiting,
    closed: bool,
    /// Nothing is sent any more.
    abandoned: bool,
}

/// What waits to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// Nothing.
    Nothing,
    /// What nobody waits for; the writer does not know.
    Idle,
    /// The same, and the writer knows until when it may wait.
    Lingering,
    /// What is to go out at once.
    Urgent,
}

/// The messages of an outbox, for the connection that sends them. Ends when the outbox is closed and empty.
pub struct OutboxMessages<B> {
    shared: Arc<Mutex<Shared<B>>>,
    /// The end of the wait for company, once there was one.
    linger: Option<Pin<Box<Sleep>>>,
}

impl<B: Batch> Outbox<B> {
    /// An outbox around `batch`, which may already hold something, and its messages.
    pub fn new(batch: B) -> (Self, OutboxMessages<B>) {
        let shared = Shared { batch, writer: None, waiting: Waiting::Urgent, closed: false, abandoned: false };
        let shared = Arc::new(Mutex::new(shared));
        (Self { shared: shared.clone() }, OutboxMessages { shared, linger: None })
    }

    /// Changes the batch, which goes out as soon as the connection is free.
    pub fn update<T>(&self, change: impl FnOnce(&mut B) -> T) -> T {
        self.put(Waiting::Urgent, change)
    }

    /// Changes the batch in what nobody waits for: it goes out with what follows, within milliseconds.
    pub fn update_soon<T>(&self, change: impl FnOnce(&mut B) -> T) -> T {
        self.put(Waiting::Idle, change)
    }

    fn put<T>(&self, waiting: Waiting, change: impl FnOnce(&mut B) -> T) -> T {
        let mut shared = lock(&self.shared);
        let result = change(&mut shared.batch);
        if waiting == Waiting::Idle && shared.waiting != Waiting::Nothing {
            // The writer has been woken already, for this or for more.
            return result;
        }
        shared.waiting = waiting;
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
        self.end(false);
    }

    /// Ends the messages at once. A connection does not end before its messages do, also when it was given up.
    pub fn abandon(&self) {
        self.end(true);
    }

    fn end(&self, at_once: bool) {
        let mut shared = lock(&self.shared);
        shared.closed = true;
        shared.abandoned |= at_once;
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

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<B::Message>> {
        let Self { shared, linger } = &mut *self;
        let mut shared = lock(shared);
        if shared.abandoned {
            return Poll::Ready(None);
        }
        if !shared.closed && !is_due(&mut shared.waiting, linger, cx) {
            shared.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(message) = shared.batch.take() {
            // There may be more than fits a message.
            shared.waiting = Waiting::Urgent;
            return Poll::Ready(Some(message));
        }
        shared.waiting = Waiting::Nothing;
        if shared.closed {
            return Poll::Ready(None);
        }
        shared.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Whether what waits is to go out now. When not, the writer is woken when it is.
fn is_due(waiting: &mut Waiting, linger: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    match *waiting {
        Waiting::Urgent => return true,
        Waiting::Nothing => return false,
        Waiting::Idle => {
            *waiting = Waiting::Lingering;
            match linger {
                Some(linger) => linger.as_mut().reset(Instant::now() + LINGER),
                None => *linger = Some(Box::pin(sleep(LINGER))),
            }
        }
        Waiting::Lingering => {}
    }
    linger.as_mut().is_none_or(|linger| linger.as_mut().poll(cx).is_ready())
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

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_lingers_alone_and_goes_with_what_somebody_does() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        let start = Instant::now();
        let later = outbox.clone();
        tokio::spawn(async move {
            for value in 1..=2 {
                sleep(LINGER / 2).await;
                later.update_soon(|batch| batch.0.insert(1, value));
            }
        });
        // The wait of the second has begun with the first.
        assert_eq!(messages.next().await, Some(vec![(1, 2)]));
        assert_eq!(start.elapsed(), LINGER + LINGER / 2);
        outbox.update_soon(|batch| batch.0.insert(1, 5));
        outbox.update(|batch| batch.0.insert(2, 7));
        outbox.update_soon(|batch| batch.0.insert(3, 9));
        let start = Instant::now();
        assert_eq!(messages.next().await, Some(vec![(1, 5), (2, 7), (3, 9)]));
        assert_eq!(start.elapsed(), Duration::ZERO);
        outbox.update_soon(|batch| batch.0.insert(1, 6));
        outbox.close();
        assert_eq!((messages.next().await, messages.next().await), (Some(vec![(1, 6)]), None));
        assert_eq!(start.elapsed(), Duration::ZERO, "the end waits for nothing");
    }

    #[tokio::test]
    async fn one_that_is_abandoned_ends_at_once_with_what_waits_in_it() {
        let (outbox, mut messages) = Outbox::new(Newest::default());
        let mut writer = Box::pin(async move { (messages.next().await, messages) });
        assert!(futures::poll!(writer.as_mut()).is_pending());
        outbox.inspect(|batch| batch.0.insert(1, 1));
        outbox.abandon();
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
