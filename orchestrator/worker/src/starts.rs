//! Places for creations under way: so many at once, the others wait.
//!
//! Which of them is next is decided in [`policy::adaptive_lifo`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use policy::adaptive_lifo::{AdaptiveLifo, End};
use tokio::{sync::oneshot, time::Instant};

/// The places. Clones share them.
#[derive(Clone)]
pub(crate) struct Starts(Arc<Mutex<Line>>);

/// A creation's place, given to the next one when it is dropped.
pub(crate) struct Place(Option<(Arc<Mutex<Line>>, u64)>);

struct Line {
    free: usize,
    /// Whether a function that has as many places as are free waits.
    shared: bool,
    /// How many each function has that has any.
    held: HashMap<u64, usize>,
    waiting: VecDeque<Waiting>,
    order: AdaptiveLifo,
}

struct Waiting {
    since: Instant,
    function: u64,
    turn: oneshot::Sender<Place>,
}

impl Starts {
    /// So many places, all of which one function may have: for creations of which none takes longer than others.
    pub(crate) fn new(places: usize) -> Self {
        Self::of(places, false)
    }

    /// So many places, of which a function gets one more while it has fewer than are free: its creations may take as long
    /// as they are let, for example because its program never listens, and others get their turn meanwhile. One such
    /// function has half of the places at most, the next one half of the rest, and so on, so that a few of them leave
    /// places for the others ("dynamic thresholds": Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998).
    pub(crate) fn shared(places: usize) -> Self {
        Self::of(places, true)
    }

    fn of(places: usize, shared: bool) -> Self {
        let order = AdaptiveLifo::default();
        let line = Line { free: places, shared, held: HashMap::new(), waiting: VecDeque::new(), order };
        Self(Arc::new(Mutex::new(line)))
    }

    /// A place for a creation of `function`, at once or when it is its turn. Dropping the future leaves the line.
    pub(crate) async fn place(&self, function: u64) -> Place {
        let turn = {
            let mut line = lock(&self.0);
            if line.free > 0 && line.has_share(function) {
                line.free -= 1;
                *line.held.entry(function).or_default() += 1;
                return Place(Some((self.0.clone(), function)));
            }
            let (turn, mine) = oneshot::channel();
            line.waiting.push_back(Waiting { since: Instant::now(), function, turn });
            mine
        };
        turn.await.expect("whoever waits is given a place before the line is gone: every place keeps it")
    }
}

impl Line {
    /// Whether a function may have one of the free places.
    fn has_share(&self, function: u64) -> bool {
        !self.shared || self.held.get(&function).is_none_or(|held| *held < self.free)
    }

    /// A creation of `function` has left its place.
    fn leave(&mut self, function: u64) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&function) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&function);
            }
        }
    }

    /// Who is next, and now has a place; nobody, if none is free or whoever waits has its share.
    fn next(&mut self, now: Instant) -> Option<Waiting> {
        while self.waiting.front().is_some_and(|first| first.turn.is_closed()) {
            self.waiting.pop_front();
        }
        while self.waiting.back().is_some_and(|last| last.turn.is_closed()) {
            self.waiting.pop_back();
        }
        if self.free == 0 {
            return None;
        }
        let may_have = |(_, waiting): &(usize, &Waiting)| !waiting.turn.is_closed() && self.has_share(waiting.function);
        let mut may_have = self.waiting.iter().enumerate().filter(may_have);
        let (oldest, first) = may_have.next()?;
        let waited = now.duration_since(first.since);
        let newest = may_have.next_back().map_or(oldest, |(place, _)| place);
        let place = match self.order.serve(waited) {
            End::Oldest => oldest,
            End::Newest => newest,
        };
        let next = self.waiting.remove(place)?;
        self.free -= 1;
        *self.held.entry(next.function).or_default() += 1;
        Some(next)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((line, function)) = self.0.take() else { return };
        lock(&line).leave(function);
        let now = Instant::now();
        loop {
            let Some(next) = lock(&line).next(now) else { return };
            let function = next.function;
            if let Err(mut place) = next.turn.send(Self(Some((line.clone(), function)))) {
                // It has left the line.
                place.0 = None;
                lock(&line).leave(function);
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

    use policy::adaptive_lifo::{LONG_WAIT, VERY_LONG_WAIT};
    use tokio::time::advance;

    use super::*;

    type Wait = Pin<Box<dyn Future<Output = Place>>>;

    /// Asks for a place, and waits in line.
    async fn ask(starts: &Starts) -> Wait {
        let starts = starts.clone();
        let mut wait: Wait = Box::pin(async move { starts.place(1).await });
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
        let (one, two) = (starts.place(1).await, starts.place(1).await);
        let (mut first, second, mut third) = (ask(&starts).await, ask(&starts).await, ask(&starts).await);
        drop(second);
        drop(one);
        let first = look(&mut first).await.expect("the first in line");
        drop(two);
        let third = look(&mut third).await.expect("the second has left");
        drop((first, third));
        let _all_are_free_again = (starts.place(1).await, starts.place(1).await);
    }

    #[tokio::test(start_paused = true)]
    async fn when_waits_are_long_the_newest_comes_first_until_they_are_short_again() {
        let starts = Starts::new(1);
        let place = starts.place(1).await;
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
    async fn who_has_waited_for_very_long_has_every_second_place_while_newer_ones_come() {
        let starts = Starts::new(1);
        let mut place = starts.place(1).await;
        let mut oldest = vec![ask(&starts).await, ask(&starts).await, ask(&starts).await];
        advance(VERY_LONG_WAIT * 2).await;
        let mut newer = Vec::new();
        for turn in 0..5 {
            newer.push(ask(&starts).await);
            drop(place);
            let next = if turn % 2 == 0 { oldest.remove(0) } else { newer.pop().expect("one has just come") };
            place = look(&mut { next }).await.expect("one of the oldest and the newest, in turns");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_the_line_takes_no_turn() {
        let starts = Starts::new(1);
        let mut place = starts.place(1).await;
        let mut oldest = vec![ask(&starts).await, ask(&starts).await];
        advance(VERY_LONG_WAIT * 2).await;
        let mut newer = Vec::new();
        for turn in 0..3 {
            newer.push(ask(&starts).await);
            drop(ask(&starts).await);
            drop(place);
            let next = if turn % 2 == 0 { oldest.remove(0) } else { newer.pop().expect("one has just come") };
            place = look(&mut { next }).await.expect("one of the oldest and the newest, in turns");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_handed_to_somebody_who_leaves_goes_on() {
        let starts = Starts::new(1);
        let place = starts.place(1).await;
        let (first, mut second) = (ask(&starts).await, ask(&starts).await);
        drop(place);
        drop(first);
        assert!(look(&mut second).await.is_some(), "the place was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn one_function_has_half_of_the_places_at_most_and_others_get_the_rest() {
        let starts = Starts::shared(4);
        let mut held = vec![starts.place(1).await, starts.place(1).await];
        let mut third = ask(&starts).await;
        let others = [starts.place(2).await, starts.place(3).await];
        drop(others);
        assert!(look(&mut third).await.is_none(), "it has its share, whatever else is free");
        advance(LONG_WAIT * 2).await;
        let other = starts.place(2).await;
        held.pop();
        assert!(look(&mut third).await.is_some(), "its own place is its own again");
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_functions_that_never_listen_leave_places_for_others() {
        let starts = Starts::shared(8);
        let mut places = Vec::new();
        let mut counts = Vec::new();
        for function in 1..=3 {
            let before = places.len();
            loop {
                let clone = starts.clone();
                let mut wait: Wait = Box::pin(async move { clone.place(function).await });
                let Some(place) = look(&mut wait).await else { break };
                places.push(place);
            }
            counts.push(places.len() - before);
        }
        assert_eq!(counts, [4, 2, 1], "half of what is left, each");
        let clone = starts.clone();
        let mut other: Wait = Box::pin(async move { clone.place(4).await });
        assert!(look(&mut other).await.is_some(), "another function still gets a place at once");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_its_share_is_passed_over_by_the_next_in_line() {
        let starts = Starts::shared(2);
        let (one, two) = (starts.place(1).await, starts.place(2).await);
        let mut first = ask(&starts).await;
        let clone = starts.clone();
        let mut second: Wait = Box::pin(async move { clone.place(3).await });
        assert!(look(&mut second).await.is_none());
        drop(two);
        assert!(look(&mut first).await.is_none(), "it has its share");
        assert!(look(&mut second).await.is_some(), "the next one goes first");
        drop(one);
        assert!(look(&mut first).await.is_some());
    }
}
