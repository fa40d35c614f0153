//! Queue order under overload ("adaptive LIFO"), used for a worker's creations and for functions that no node has room
//! for.
//!
//! First come, first served, as long as nobody waits for long. Under a long wait the oldest entry is the likeliest to
//! time out before its result is of use, so the newest is served first (Maurer, Fail at Scale, ACM Queue 13(8), 2015).
//! An old entry that does not time out would starve while newer ones arrive, so after a very long wait the oldest is
//! served every second time.

use std::time::Duration;

/// A longer wait means sustained overload: a burst is over sooner.
pub const LONG_WAIT: Duration = Duration::from_secs(1);
/// Beyond this wait the oldest alternates with newer entries. It is the control plane's default time-out of a creation,
/// and about the time that clients wait.
pub const VERY_LONG_WAIT: Duration = Duration::from_secs(30);

/// An end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end with the longest wait.
    Oldest,
    /// The end with the shortest wait.
    Newest,
}

/// The order in which one queue is served.
#[derive(Clone, Debug, Default)]
pub struct AdaptiveLifo {
    /// The last one served had waited very long and was the oldest, so the newest is next.
    served_oldest: bool,
}

impl AdaptiveLifo {
    /// The end to serve next, given the wait of the oldest eligible entry.
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
