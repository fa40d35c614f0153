//! The ports that no sandbox of this process uses, in the order in which they are given out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use super::{
    port_history,
    port_range::{self, RANGE_FILE},
};

/// Ports tried in a short search. That takes some 0.3 ms, during which the worker does nothing else.
const MAX_TRIES: usize = 128;
/// Shortest time between two searches that try all ports: each takes some 50 ms.
const WHOLE_SEARCH_PERIOD: Duration = Duration::from_secs(10);

/// The queue of this process, which its workers share even if they have different addresses: a program that listens on
/// all addresses can be reached on each.
static SHARED: LazyLock<Arc<Mutex<PortQueue>>> =
    LazyLock::new(|| Arc::new(Mutex::new(PortQueue::new(port_range::usable()))));

/// The unused ports. Each port of the range is here once, or a sandbox has it.
#[derive(Debug)]
pub(super) struct PortQueue {
    /// The next one first. Each with the time at which its last sandbox ended, 0 if unknown; the times never decrease.
    ports: VecDeque<(u16, u32)>,
    /// The latest time at which a sandbox ended, also of ports that are not here.
    newest: u32,
    /// The time of the last search beyond [`MAX_TRIES`].
    long_search: Option<Instant>,
}

impl PortQueue {
    pub(super) fn shared() -> Arc<Mutex<Self>> {
        Arc::clone(&SHARED)
    }

    pub(super) fn new(ports: VecDeque<u16>) -> Self {
        let ports = ports.into_iter().map(|port| (port, 0)).collect();
        Self { ports, newest: 0, long_search: None }
    }

    /// Takes the first port for which `try_bind` returns true, and moves those before it to the end. `None` if there is
    /// none; then the next searches are short for [`WHOLE_SEARCH_PERIOD`].
    ///
    /// # Errors
    /// The error of `try_bind`.
    pub(super) fn find(&mut self, mut try_bind: impl FnMut(u16) -> io::Result<bool>) -> io::Result<Option<u16>> {
        let is_whole = self.long_search.is_none_or(|at| at.elapsed() >= WHOLE_SEARCH_PERIOD);
        let tries = if is_whole { self.ports.len() } else { self.ports.len().min(MAX_TRIES) };
        for tried in 0..tries {
            if tried == MAX_TRIES {
                self.long_search = Some(Instant::now());
            }
            let Some((port, _)) = self.ports.pop_front() else { break };
            let bound = try_bind(port);
            if let Ok(true) = bound {
                return Ok(Some(port));
            }
            // Whatever uses it may end at any time, like a sandbox: its time is now.
            self.ports.push_back((port, self.newest));
            // After the port is in the queue again, so that an error loses none.
            bound?;
        }
        if is_whole {
            self.long_search = Some(Instant::now());
            warn!("every port of {RANGE_FILE} is in use or was until a moment ago: creations wait");
        }
        Ok(None)
    }

    /// Applies the times at which sandboxes of another process ended, oldest first. A time is applied to a port that is
    /// here with an earlier one.
    pub(super) fn apply_history(&mut self, used: &[(u16, u32)]) {
        let here: BTreeMap<u16, u32> = self.ports.iter().copied().collect();
        let is_later = |(port, ended): &&(u16, u32)| here.get(port).is_some_and(|known| known < ended);
        let later: Vec<(u16, u32)> = used.iter().filter(is_later).copied().collect();
        let moved: BTreeSet<u16> = later.iter().map(|(port, _)| *port).collect();
        self.ports.retain(|(port, _)| !moved.contains(port));
        self.ports.extend(later);
        // A stable sort keeps the order within the same second.
        self.ports.make_contiguous().sort_by_key(|(_, ended)| *ended);
        self.newest = used.iter().map(|(_, ended)| *ended).fold(self.newest, u32::max);
    }

    /// The time of a sandbox that ends now, in seconds since 1970; never before an earlier one.
    pub(super) fn now(&self) -> u32 {
        port_history::now(self.newest)
    }

    /// Puts a port at the end, whose sandbox ended at `ended`, a time of [`now`](Self::now).
    pub(super) fn put_back(&mut self, port: u16, ended: u32) {
        self.newest = self.newest.max(ended);
        self.ports.push_back((port, ended));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_search_without_success_tries_some_ports_and_the_next_one_continues() {
        let mut queue = PortQueue::new((1..=1000).collect());
        let mut search = |free: u16| {
            let mut tries = 0;
            let found = queue.find(|port| {
                tries += 1;
                Ok(port == free)
            });
            let found = found.unwrap();
            found.iter().for_each(|port| queue.put_back(*port, 1));
            (tries, found)
        };
        assert_eq!(search(1000), (1000, Some(1000)), "a whole search");
        advance(WHOLE_SEARCH_PERIOD).await;
        assert_eq!(search(0), (1000, None));
        assert_eq!([(); 4].map(|()| search(600)), [(MAX_TRIES, None); 4]);
        assert_eq!(search(600), (600 - 4 * MAX_TRIES, Some(600)));
        assert_eq!(search(0), (MAX_TRIES, None));
        advance(WHOLE_SEARCH_PERIOD).await;
        assert_eq!(search(0), (1000, None), "ports may have become free");
        assert_eq!(search(0), (MAX_TRIES, None));
        advance(WHOLE_SEARCH_PERIOD).await;
        let (tries, found) = search(500);
        assert!(tries > MAX_TRIES && found == Some(500), "{tries}");
        assert!(search(499).0 <= MAX_TRIES, "a whole search that succeeds counts too");
    }

    #[test]
    fn used_ports_come_last_if_they_are_here() {
        let mut queue = PortQueue::new([5, 4, 3, 2].into());
        queue.apply_history(&[(4, 10), (9, 11), (5, 12)]);
        assert_eq!(queue.ports, [(3, 0), (2, 0), (4, 10), (5, 12)]);
    }

    #[test]
    fn the_history_of_another_worker_is_merged_by_time() {
        let mut queue = PortQueue::new([1, 2, 3, 4, 5].into());
        for ended in [20, 30] {
            let port = queue.find(|_| Ok(true)).unwrap().unwrap();
            queue.put_back(port, ended);
        }
        queue.apply_history(&[(1, 10), (3, 15), (2, 25), (4, 25), (5, 40)]);
        assert_eq!(queue.ports, [(3, 15), (1, 20), (4, 25), (2, 30), (5, 40)], "no port comes earlier than before");
    }

    #[test]
    fn a_search_that_fails_loses_no_port() {
        let mut queue = PortQueue::new([1, 2].into());
        let error = queue.find(|_| Err(io::Error::other("no"))).unwrap_err();
        assert_eq!(error.to_string(), "no");
        assert_eq!(queue.find(|port| Ok(port == 1)).unwrap(), Some(1));
        assert_eq!(queue.find(|_| Ok(true)).unwrap(), Some(2));
        assert_eq!(queue.find(|_| Ok(true)).unwrap(), None);
    }
}
