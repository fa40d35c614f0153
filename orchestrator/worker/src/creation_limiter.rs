//! Bounds the creations that run at once; the others wait in a queue.
//!
//! [`policy::adaptive_lifo`] decides which of the waiting creations gets the next permit.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::FunctionId;
use policy::adaptive_lifo::{AdaptiveLifo, End};
use tokio::{sync::oneshot, time::Instant};

/// A number of permits, one for each creation that runs. Clones share them.
#[derive(Clone)]
pub(crate) struct CreationLimiter(Arc<Mutex<PermitQueue>>);

/// The permit of one creation. Dropping it passes the permit to the next creation in the queue.
pub(crate) struct CreationPermit(Option<(Arc<Mutex<PermitQueue>>, FunctionId)>);

struct PermitQueue {
    free: usize,
    /// A function gets a permit only while it holds fewer than are free.
    shared: bool,
    /// Permits held by each function that holds any.
    held: HashMap<FunctionId, usize>,
    waiting: VecDeque<QueueEntry>,
    discipline: AdaptiveLifo,
}

struct QueueEntry {
    since: Instant,
    function: FunctionId,
    permit: oneshot::Sender<CreationPermit>,
}

impl CreationLimiter {
    /// `permits` permits, all of which one function may hold: for creations that all take about the same time.
    pub(crate) fn new(permits: usize) -> Self {
        Self::with_sharing(permits, false)
    }

    /// `permits` permits, of which a function gets one more only while it holds fewer than are free.
    ///
    /// A creation may take as long as its deadline allows, for example because its program never listens, and must not
    /// block the other functions meanwhile. One such function holds half of the permits at most, the next one half of
    /// the rest, and so on, so that a few of them still leave permits ("dynamic thresholds": Choudhury and Hahne,
    /// IEEE/ACM Transactions on Networking 6(2), 1998).
    pub(crate) fn shared(permits: usize) -> Self {
        Self::with_sharing(permits, true)
    }

    fn with_sharing(permits: usize, shared: bool) -> Self {
        let discipline = AdaptiveLifo::default();
        let queue = PermitQueue { free: permits, shared, held: HashMap::new(), waiting: VecDeque::new(), discipline };
        Self(Arc::new(Mutex::new(queue)))
    }

    /// Waits for a permit for a creation of `function`. Dropping the future leaves the queue.
    pub(crate) async fn acquire(&self, function: FunctionId) -> CreationPermit {
        let permit = {
            let mut queue = lock(&self.0);
            // Nobody is overtaken: while a permit is free, every function in the queue has its share.
            if queue.free > 0 && queue.is_within_share(function) {
                queue.take_permit(function);
                return CreationPermit(Some((self.0.clone(), function)));
            }
            let (permit, receiver) = oneshot::channel();
            queue.waiting.push_back(QueueEntry { since: Instant::now(), function, permit });
            receiver
        };
        // Every permit keeps the queue alive, and a queue with entries has a permit out.
        permit.await.expect("an entry gets a permit before the queue is dropped")
    }
}

impl PermitQueue {
    /// Returns true if `function` may hold one of the free permits.
    fn is_within_share(&self, function: FunctionId) -> bool {
        !self.shared || self.held.get(&function).is_none_or(|held| *held < self.free)
    }

    fn take_permit(&mut self, function: FunctionId) {
        self.free -= 1;
        *self.held.entry(function).or_default() += 1;
    }

    fn return_permit(&mut self, function: FunctionId) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&function) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&function);
            }
        }
    }

    /// Removes the next entry to serve and takes a permit for it. `None` if no permit is free, or if every waiting
    /// function has its share.
    fn pop_next(&mut self, now: Instant) -> Option<QueueEntry> {
        // Entries that have left are removed where they are met at an end, so that leaving needs no search.
        while self.waiting.front().is_some_and(|first| first.permit.is_closed()) {
            self.waiting.pop_front();
        }
        while self.waiting.back().is_some_and(|last| last.permit.is_closed()) {
            self.waiting.pop_back();
        }
        if self.free == 0 {
            return None;
        }
        // An entry that has left must not count: the oldest and the newest alternate among those that still wait.
        let is_eligible =
            |(_, entry): &(usize, &QueueEntry)| !entry.permit.is_closed() && self.is_within_share(entry.function);
        let mut eligible = self.waiting.iter().enumerate().filter(is_eligible);
        let (oldest, first) = eligible.next()?;
        let waited = now.duration_since(first.since);
        let newest = eligible.next_back().map_or(oldest, |(index, _)| index);
        let index = match self.discipline.serve(waited) {
            End::Oldest => oldest,
            End::Newest => newest,
        };
        let next = self.waiting.remove(index)?;
        self.take_permit(next.function);
        Some(next)
    }
}

impl Drop for CreationPermit {
    fn drop(&mut self) {
        let Some((queue, function)) = self.0.take() else { return };
        lock(&queue).return_permit(function);
        let now = Instant::now();
        // One returned permit can let several functions back within their share.
        loop {
            let Some(next) = lock(&queue).pop_next(now) else { return };
            let function = next.function;
            if let Err(mut permit) = next.permit.send(Self(Some((queue.clone(), function)))) {
                // The receiver left the queue meanwhile. Emptied first, so that dropping the permit does not recurse.
                permit.0 = None;
                lock(&queue).return_permit(function);
            }
        }
    }
}

/// Every change leaves the queue consistent, so a panic of another holder does not make it unusable.
fn lock(queue: &Mutex<PermitQueue>) -> MutexGuard<'_, PermitQueue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll};

    use policy::adaptive_lifo::{LONG_WAIT, VERY_LONG_WAIT};
    use tokio::time::advance;

    use super::*;

    type Wait = Pin<Box<dyn Future<Output = CreationPermit>>>;

    /// Waits for a permit for `function`; not polled yet.
    fn acquire(limiter: &CreationLimiter, function: FunctionId) -> Wait {
        let limiter = limiter.clone();
        Box::pin(async move { limiter.acquire(function).await })
    }

    /// A creation of function 1 in the queue.
    async fn enqueue(limiter: &CreationLimiter) -> Wait {
        let mut wait = acquire(limiter, FunctionId(1));
        assert!(poll_once(&mut wait).await.is_none(), "no permit was free");
        wait
    }

    async fn poll_once(wait: &mut Wait) -> Option<CreationPermit> {
        poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(permit) => Poll::Ready(Some(permit)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_first_in_first_out_and_skips_dropped_entries() {
        let limiter = CreationLimiter::new(2);
        let (one, two) = (limiter.acquire(FunctionId(1)).await, limiter.acquire(FunctionId(1)).await);
        let (mut first, second, mut third) =
            (enqueue(&limiter).await, enqueue(&limiter).await, enqueue(&limiter).await);
        drop(second);
        drop(one);
        let first = poll_once(&mut first).await.expect("the first in the queue");
        drop(two);
        let third = poll_once(&mut third).await.expect("the second has left");
        drop((first, third));
        let _all_are_free_again = (limiter.acquire(FunctionId(1)).await, limiter.acquire(FunctionId(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn after_long_waits_the_newest_entry_comes_first_until_waits_are_short_again() {
        let limiter = CreationLimiter::new(1);
        let permit = limiter.acquire(FunctionId(1)).await;
        let (mut oldest, mut old) = (enqueue(&limiter).await, enqueue(&limiter).await);
        advance(LONG_WAIT * 2).await;
        let mut new = enqueue(&limiter).await;
        drop(permit);
        let permit = poll_once(&mut new).await.expect("the newest");
        drop(permit);
        let permit = poll_once(&mut old).await.expect("the newest of those left");
        let mut new = enqueue(&limiter).await;
        drop(oldest);
        drop(permit);
        let permit = poll_once(&mut new).await.expect("no entry has waited for long any more");
        oldest = enqueue(&limiter).await;
        drop(permit);
        assert!(poll_once(&mut oldest).await.is_some());
    }

    /// Hands the permit on `rounds` times, with a new entry each time, and expects the oldest and the newest in
    /// alternation.
    async fn expect_alternation(rounds: usize, oldest: usize, mut each_round: impl AsyncFnMut(&CreationLimiter)) {
        let limiter = CreationLimiter::new(1);
        let mut permit = limiter.acquire(FunctionId(1)).await;
        let mut waiting = Vec::new();
        for _ in 0..oldest {
            waiting.push(enqueue(&limiter).await);
        }
        advance(VERY_LONG_WAIT * 2).await;
        let mut newer = Vec::new();
        for round in 0..rounds {
            newer.push(enqueue(&limiter).await);
            each_round(&limiter).await;
            drop(permit);
            let next = if round % 2 == 0 { waiting.remove(0) } else { newer.pop().expect("one has just come") };
            permit = poll_once(&mut { next }).await.expect("the oldest and the newest in alternation");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_very_long_waits_every_second_permit_goes_to_the_oldest_entry() {
        expect_alternation(5, 3, async |_| {}).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_entry_does_not_count_in_the_alternation() {
        expect_alternation(3, 2, async |limiter| drop(enqueue(limiter).await)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_sent_to_a_dropped_entry_goes_to_the_next_one() {
        let limiter = CreationLimiter::new(1);
        let permit = limiter.acquire(FunctionId(1)).await;
        let (first, mut second) = (enqueue(&limiter).await, enqueue(&limiter).await);
        drop(permit);
        drop(first);
        assert!(poll_once(&mut second).await.is_some(), "the permit was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn one_function_holds_half_of_the_permits_at_most_and_others_get_the_rest() {
        let limiter = CreationLimiter::shared(4);
        let mut held = vec![limiter.acquire(FunctionId(1)).await, limiter.acquire(FunctionId(1)).await];
        let mut third = enqueue(&limiter).await;
        let others = [limiter.acquire(FunctionId(2)).await, limiter.acquire(FunctionId(3)).await];
        drop(others);
        assert!(poll_once(&mut third).await.is_none(), "it has its share, whatever else is free");
        advance(LONG_WAIT * 2).await;
        let other = limiter.acquire(FunctionId(2)).await;
        held.pop();
        assert!(poll_once(&mut third).await.is_some(), "it is below its share again");
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_functions_that_never_listen_leave_permits_for_others() {
        let limiter = CreationLimiter::shared(8);
        let mut permits = Vec::new();
        let mut counts = Vec::new();
        for function in 1..=3 {
            let before = permits.len();
            while let Some(permit) = poll_once(&mut acquire(&limiter, FunctionId(function))).await {
                permits.push(permit);
            }
            counts.push(permits.len() - before);
        }
        assert_eq!(counts, [4, 2, 1], "half of what is left, each");
        assert!(
            poll_once(&mut acquire(&limiter, FunctionId(4))).await.is_some(),
            "another function still gets a permit at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_of_a_function_with_its_share_is_skipped() {
        let limiter = CreationLimiter::shared(2);
        let (one, two) = (limiter.acquire(FunctionId(1)).await, limiter.acquire(FunctionId(2)).await);
        let mut first = enqueue(&limiter).await;
        let mut second = acquire(&limiter, FunctionId(3));
        assert!(poll_once(&mut second).await.is_none());
        drop(two);
        assert!(poll_once(&mut first).await.is_none(), "it has its share");
        assert!(poll_once(&mut second).await.is_some(), "the next one goes first");
        drop(one);
        assert!(poll_once(&mut first).await.is_some());
    }
}
