//! The ports that no sandbox of this process has, in the order in which they are given out.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use super::port_range::{self, RANGE_FILE};

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
    /// The one that is next first.
    ports: VecDeque<u16>,
    /// When a search last went on beyond its number of tries.
    long_search: Option<Instant>,
}

impl PortQueue {
    pub(super) fn shared() -> Arc<Mutex<Self>> {
        Arc::clone(&SHARED)
    }

    pub(super) fn new(ports: VecDeque<u16>) -> Self {
        Self { ports, long_search: None }
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
            let Some(port) = self.ports.pop_front() else { break };
            let kept = keep(port);
            if let Ok(true) = kept {
                return Ok(Some(port));
            }
            // Whatever had it may end now, like a sandbox.
            self.ports.push_back(port);
            kept?;
        }
        if is_whole {
            self.long_search = Some(Instant::now());
            warn!("every port of {RANGE_FILE} is in use, or its connections have ended just now: creations wait");
        }
        Ok(None)
    }

    /// Those of `used` that are here come last, in this order.
    pub(super) fn let_rest(&mut self, used: &[u16]) {
        let here: BTreeSet<u16> = self.ports.iter().copied().collect();
        let resting: Vec<u16> = used.iter().copied().filter(|port| here.contains(port)).collect();
        let is_resting: BTreeSet<u16> = resting.iter().copied().collect();
        self.ports.retain(|port| !is_resting.contains(port));
        self.ports.extend(resting);
    }

    /// The sandbox of a port has ended: it comes last.
    pub(super) fn put_back(&mut self, port: u16) {
        self.ports.push_back(port);
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
            found.iter().for_each(|port| queue.put_back(*port));
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
        queue.let_rest(&[4, 9, 5]);
        assert_eq!(queue.ports, [3, 2, 4, 5]);
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
