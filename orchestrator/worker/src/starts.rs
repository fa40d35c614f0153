//! Places for creations under way: so many at once, the others wait.
//!
//! First come, first served, as long as nobody has to wait for long. When somebody has, more is asked for than can be
//! done, and whoever has waited longest is the likeliest to be given up before its sandbox is ready: then the newest
//! comes first, so that what is made is still of use ("adaptive LIFO": Maurer, Fail at Scale, ACM Queue 13(8), 2015).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// A wait beyond this means that more is asked for than can be done: a burst of starts is over sooner.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// The places. Clones share them.
#[derive(Clone)]
pub(crate) struct Starts(Arc<Mutex<Line>>);

/// A creation's place, given to the next one when it is dropped.
pub(crate) struct Place(Option<Arc<Mutex<Line>>>);

struct Line {
    free: usize,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    since: Instant,
    turn: oneshot::Sender<Place>,
}

impl Starts {
    /// So many places.
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Mutex::new(Line { free: places, waiting: VecDeque::new() })))
    }

    /// A place, at once or when it is this one's turn. Dropping the future leaves the line.
    pub(crate) async fn place(&self) -> Place {
        let turn = {
            let mut line = lock(&self.0);
            if line.free > 0 {
                line.free -= 1;
                return Place(Some(self.0.clone()));
            }
            let (turn, mine) = oneshot::channel();
            line.waiting.push_back(Waiting { since: Instant::now(), turn });
            mine
        };
        turn.await.expect("whoever waits is given a place before the line is gone: every place keeps it")
    }
}

impl Line {
    /// Who is next; nobody: the place is free.
    fn next(&mut self, now: Instant) -> Option<Waiting> {
        while self.waiting.front().is_some_and(|first| first.turn.is_closed()) {
            self.waiting.pop_front();
        }
        let long = self.waiting.front().is_some_and(|first| now.duration_since(first.since) > LONG_WAIT);
        let next = if long { self.waiting.pop_back() } else { self.waiting.pop_front() };
        if next.is_none() {
            self.free += 1;
        }
        next
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(line) = self.0.take() else { return };
        let now = Instant::now();
        loop {
            let Some(next) = lock(&line).next(now) else { return };
            match next.turn.send(Self(Some(line.clone()))) {
                Ok(()) => return,
                // It has left the line.
                Err(mut place) => place.0 = None,
            }
        }
    }
}

/// Every change leaves the line whole, so a panic elsewhere does not make it unusable.
fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, task::Poll};

    use tokio::time::advance;

    use super::*;

    type Wait = Pin<Box<dyn Future<Output = Place>>>;

    /// Asks for a place, and waits in line.
    async fn ask(starts: &Starts) -> Wait {
        let starts = starts.clone();
        let mut wait: Wait = Box::pin(async move { starts.place().await });
        assert!(look(&mut wait).await.is_none(), "no place was free");
        wait
    }

    async fn look(wait: &mut Wait) -> Option<Place> {
        poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(place) => Poll::Ready(Some(place)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_first_is_served_first_and_who_left_is_passed_over() {
        let starts = Starts::new(2);
        let (one, two) = (starts.place().await, starts.place().await);
        let (mut first, second, mut third) = (ask(&starts).await, ask(&starts).await, ask(&starts).await);
        drop(second);
        drop(one);
        let first = look(&mut first).await.expect("the first in line");
        drop(two);
        let third = look(&mut third).await.expect("the second has left");
        drop((first, third));
        let _all_are_free_again = (starts.place().await, starts.place().await);
    }

    #[tokio::test(start_paused = true)]
    async fn when_waits_are_long_the_newest_comes_first_until_they_are_short_again() {
        let starts = Starts::new(1);
        let place = starts.place().await;
        let (mut oldest, mut old) = (ask(&starts).await, ask(&starts).await);
        advance(LONG_WAIT * 2).await;
        let mut new = ask(&starts).await;
        drop(place);
        let place = look(&mut new).await.expect("the newest");
        drop(place);
        let place = look(&mut old).await.expect("the newest of those left");
        let mut new = ask(&starts).await;
        drop(oldest);
        drop(place);
        let place = look(&mut new).await.expect("nobody waits for long any more");
        oldest = ask(&starts).await;
        drop(place);
        assert!(look(&mut oldest).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_handed_to_somebody_who_leaves_goes_on() {
        let starts = Starts::new(1);
        let place = starts.place().await;
        let (first, mut second) = (ask(&starts).await, ask(&starts).await);
        drop(place);
        drop(first);
        assert!(look(&mut second).await.is_some(), "the place was lost");
    }
}
