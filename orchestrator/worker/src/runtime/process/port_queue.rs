//! The ports that no sandbox of this process has, in the order in which they are given out.

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

/// Ports tried in one search: that takes some 0.3 ms, in which the worker does nothing else.
const MAX_TRIED: usize = 128;
/// One search may try all of them, at most so often: that takes some 50 ms.
const WHOLE_SEARCH_PERIOD: Duration = Duration::from_secs(10);

/// Those of this process, which its workers share: a port that a sandbox of one had rests for all, also where they have
/// different addresses, since a program that listens on all of them is found on each.
static SHARED: LazyLock<Arc<Mutex<PortQueue>>> =
    LazyLock::new(|| Arc::new(Mutex::new(PortQueue::new(port_range::usable()))));

/// Each port of the range is here once, or a sandbox has it.
#[derive(Debug)]
pub(super) struct PortQueue {
    /// The one that is next first, and with each when its last sandbox ended, as far as that is known: later and later.
    ports: VecDeque<(u16, u32)>,
    /// The latest of these times, also of ports that are not here.
    newest: u32,
    /// When a search last went on beyond its number of tries.
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

    /// Takes the first port that `keep` can keep, for which it returns true; those before it come last then. `None` where
    /// none is found; further searches are short for a while.
    pub(super) fn find(&mut self, mut keep: impl FnMut(u16) -> io::Result<bool>) -> io::Result<Option<u16>> {
        let is_whole = self.long_search.is_none_or(|at| at.elapsed() >= WHOLE_SEARCH_PERIOD);
        let tries = if is_whole { self.ports.len() } else { self.ports.len().min(MAX_TRIED) };
        for tried in 0..tries {
            if tried == MAX_TRIED {
                self.long_search = Some(Instant::now());
            }
            let Some((port, _)) = self.ports.pop_front() else { break };
            let kept = keep(port);
            if let Ok(true) = kept {
                return Ok(Some(port));
            }
            // Whatever had it may end now, like a sandbox.
            self.ports.push_back((port, self.newest));
            kept?;
        }
        if is_whole {
            self.long_search = Some(Instant::now());
            warn!("every port of {RANGE_FILE} is in use, or its connections have ended just now: creations wait");
        }
        Ok(None)
    }

    /// Takes up when sandboxes of another process had ports, of which the first that ended is in front: those that are here
    /// rest from then on, unless they do so from a later time already.
    pub(super) fn let_rest(&mut self, used: &[(u16, u32)]) {
        let here: BTreeMap<u16, u32> = self.ports.iter().copied().collect();
        let is_later = |(port, ended): &&(u16, u32)| here.get(port).is_some_and(|known| known < ended);
        let resting: Vec<(u16, u32)> = used.iter().filter(is_later).copied().collect();
        let moved: BTreeSet<u16> = resting.iter().map(|(port, _)| *port).collect();
        self.ports.retain(|(port, _)| !moved.contains(port));
        self.ports.extend(resting);
        // Stable: of the same second each keeps its place among those it came with.
        self.ports.make_contiguous().sort_by_key(|(_, ended)| *ended);
        self.newest = used.iter().map(|(_, ended)| *ended).fold(self.newest, u32::max);
    }

    /// When a sandbox ended that does so now.
    pub(super) fn now(&self) -> u32 {
        port_history::now(self.newest)
    }

    /// The sandbox of a port has ended, at this time of [`now`](Self::now): it comes last.
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
    async fn a_search_where_all_are_in_use_goes_through_some_ports_and_the_next_one_goes_on() {
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
        assert_eq!(search(1000), (1000, Some(1000)), "it goes through others");
        advance(WHOLE_SEARCH_PERIOD).await;
        assert_eq!(search(0), (1000, None));
        assert_eq!([(); 4].map(|()| search(600)), [(MAX_TRIED, None); 4]);
        assert_eq!(search(600), (600 - 4 * MAX_TRIED, Some(600)));
        assert_eq!(search(0), (MAX_TRIED, None));
        advance(WHOLE_SEARCH_PERIOD).await;
        assert_eq!(search(0), (1000, None), "there may be more of them by now");
        assert_eq!(search(0), (MAX_TRIED, None));
        advance(WHOLE_SEARCH_PERIOD).await;
        let (tries, found) = search(500);
        assert!(tries > MAX_TRIED && found == Some(500), "{tries}");
        assert!(search(499).0 <= MAX_TRIED, "a long search that found one was one too");
    }

    #[test]
    fn used_ports_come_last_if_they_are_here() {
        let mut queue = PortQueue::new([5, 4, 3, 2].into());
        queue.let_rest(&[(4, 10), (9, 11), (5, 12)]);
        assert_eq!(queue.ports, [(3, 0), (2, 0), (4, 10), (5, 12)]);
    }

    #[test]
    fn what_another_worker_knows_of_ports_is_put_where_it_belongs_by_time() {
        let mut queue = PortQueue::new([1, 2, 3, 4, 5].into());
        for ended in [20, 30] {
            let port = queue.find(|_| Ok(true)).unwrap().unwrap();
            queue.put_back(port, ended);
        }
        queue.let_rest(&[(1, 10), (3, 15), (2, 25), (4, 25), (5, 40)]);
        assert_eq!(queue.ports, [(3, 15), (1, 20), (4, 25), (2, 30), (5, 40)], "none rests for less than before");
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
