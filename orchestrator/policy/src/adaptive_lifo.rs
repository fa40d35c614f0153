//! Who is served next of those that wait where more is asked for than can be done: the order of a worker's creations, and of
//! functions that no node has room for.
//!
//! First come, first served, as long as nobody has to wait for long. When somebody has, the one that has waited longest is the
//! likeliest to be given up before it is of use: then the newest comes first ("adaptive LIFO": Maurer, Fail at Scale, ACM
//! Queue 13(8), 2015). Who is not given up all the same would wait without end while newer ones come, so of those that have
//! waited for very long the oldest is served every second time.

use std::time::Duration;

/// A wait beyond this means that more is asked for than can be done: a burst is over sooner.
pub const LONG_WAIT: Duration = Duration::from_secs(1);
/// Beyond this wait the oldest is served by turns with newer ones: as long as the control plane lets a creation take by
/// default, and about as long as clients wait.
pub const VERY_LONG_WAIT: Duration = Duration::from_secs(30);

/// An end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where those are that have waited longest.
    Oldest,
    /// Where the others are.
    Newest,
}

/// The order in which one queue is served.
#[derive(Clone, Debug, Default)]
pub struct AdaptiveLifo {
    /// The one served last had waited for very long, and was the oldest: it is the newest's turn.
    served_oldest: bool,
}

impl AdaptiveLifo {
    /// The end at which the next one is served, of those that may be: the oldest of these has waited for so long.
    pub fn serve(&mut self, oldest_waited: Duration) -> End {
        let serves_oldest = oldest_waited > VERY_LONG_WAIT && !self.served_oldest;
        self.served_oldest = serves_oldest;
        if oldest_waited <= LONG_WAIT || serves_oldest { End::Oldest } else { End::Newest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_first_then_the_newest_then_both_alternately() {
        let mut order = AdaptiveLifo::default();
        let mut served = |waited_ms: &[u64]| -> Vec<End> {
            waited_ms.iter().map(|ms| order.serve(Duration::from_millis(*ms))).collect()
        };
        assert_eq!(served(&[0, 1000, 1001, 30_000]), [End::Oldest, End::Oldest, End::Newest, End::Newest]);
        assert_eq!(served(&[30_001, 30_002, 90_000]), [End::Oldest, End::Newest, End::Oldest]);
        assert_eq!(served(&[500, 31_000]), [End::Oldest, End::Oldest], "a short wait resets the order");
    }
}
