//! The connections of which nobody knows yet whether they are a peer's: so many at once, and which of them is closed
//! when one more comes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Connections at once that have not shown the token: a quarter of the least number of files that these programs accept,
/// so that whoever says nothing does not take them all.
pub(crate) const MAX_UNPROVEN: usize = 256;
/// A connection is not closed in favour of another one before this has passed. A peer has mostly sent its request by the
/// time it is accepted; this is for a slow network and a busy machine.
const GRACE: Duration = Duration::from_millis(100);
/// Bits of an IPv6 address that name its network.
const NETWORK_BITS: u32 = 64;

/// The connections of one port that have not shown the token.
///
/// Whoever reaches the port may open connections and say nothing. If new ones waited until such a connection is closed
/// by itself, everybody who opens them faster than that would keep all peers away. So each is accepted, and at the bound
/// it takes the place of another one:
///
///  * Of the address that has the most of them, since a peer has one: who opens many from a few addresses closes only
///    their own. A network of IPv6 is one address, as it is given to one machine.
///  * Of that address the oldest. A peer behind the same address, or one among more addresses than there are places, has
///    then the longest time to show its token, where a random victim might be one that is just about to.
///  * None before [`GRACE`] has passed, however fast others open connections anew. Until then the newest one waits, and
///    those after it in the operating system's queue: at least [`MAX_UNPROVEN`] are accepted in each [`GRACE`], 2560 a
///    second, so that who waits behind a full queue (some 4000) is accepted within two seconds, which is less than a
///    peer waits for its first response.
#[derive(Default)]
pub(crate) struct Unproven {
    table: Mutex<Table>,
    /// A place has become free.
    room: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By the order of their coming.
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    origin: IpAddr,
    since: Instant,
    leave: CancellationToken,
}

/// A connection's place among the others, until it is dropped.
pub(crate) struct Place {
    id: u64,
    of: Arc<Unproven>,
    /// Cancelled when another connection has taken it.
    pub(crate) taken: CancellationToken,
}

impl Unproven {
    /// A place for a connection from `address`. At the bound it waits at most [`GRACE`]. One caller at a time.
    pub(crate) async fn admit(self: &Arc<Self>, address: IpAddr) -> Place {
        loop {
            let due = match self.try_admit(origin(address)) {
                Ok(place) => return place,
                Err(due) => due,
            };
            tokio::select! {
                biased;
                () = self.room.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// A place, or when there will be one at the latest.
    fn try_admit(self: &Arc<Self>, origin: IpAddr) -> Result<Place, Instant> {
        let (mut table, now) = (self.lock(), Instant::now());
        if table.connections.len() >= MAX_UNPROVEN
            && let Some((id, due)) = table.victim()
        {
            if due > now {
                return Err(due);
            }
            if let Some(victim) = table.connections.remove(&id) {
                victim.leave.cancel();
            }
        }
        let (id, taken) = (table.next, CancellationToken::new());
        table.next += 1;
        table.connections.insert(id, Connection { origin, since: now, leave: taken.clone() });
        Ok(Place { id, of: Arc::clone(self), taken })
    }

    /// Every change leaves it whole, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The connection to close next, and from when on it may be closed: of the origins that have the most, the oldest.
    fn victim(&self) -> Option<(u64, Instant)> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.connections.values() {
            *counts.entry(connection.origin).or_default() += 1;
        }
        let rank = |(id, connection): &(&u64, &Connection)| (counts.get(&connection.origin).copied(), Reverse(**id));
        self.connections.iter().max_by_key(rank).map(|(id, victim)| (*id, victim.since + GRACE))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.of.lock().connections.remove(&self.id).is_some() {
            self.of.room.notify_one();
        }
    }
}

/// What counts as one address.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> NETWORK_BITS << NETWORK_BITS)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn who_opens_many_closes_their_own_and_a_peer_elsewhere_keeps_its_place() {
        let unproven = Arc::new(Unproven::default());
        let peer = unproven.admit(address("192.0.2.1")).await;
        let mut silent = Vec::new();
        for turn in 0..10_000 {
            silent.push(unproven.admit(address(&format!("2001:db8::{:x}", turn % 1000))).await);
        }
        assert!(!peer.taken.is_cancelled(), "it is the only one of its address");
        let left = silent.iter().filter(|place| !place.taken.is_cancelled()).count();
        assert_eq!(left, MAX_UNPROVEN - 1);
        assert!(silent[..10_000 - left].iter().all(|place| place.taken.is_cancelled()), "the oldest go first");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_closed_at_once_and_nobody_waits_long() {
        let unproven = Arc::new(Unproven::default());
        let (mut places, mut closed) = (Vec::new(), Vec::new());
        // One from each address: none of them has more than the others.
        for turn in 0..u32::try_from(MAX_UNPROVEN).unwrap() * 8 {
            let began = Instant::now();
            let place = unproven.admit(IpAddr::from((0x0a00_0000 + turn).to_be_bytes())).await;
            assert!(began.elapsed() <= GRACE, "{:?}", began.elapsed());
            let leave = place.taken.clone();
            places.push(place);
            let came = Instant::now();
            closed.push(tokio::spawn(async move {
                leave.cancelled().await;
                came.elapsed()
            }));
        }
        closed.truncate(places.len() - MAX_UNPROVEN);
        for closed in closed {
            let after = closed.await.unwrap();
            assert!(after >= GRACE, "closed after {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_becomes_free_is_taken_without_waiting() {
        let unproven = Arc::new(Unproven::default());
        let mut places = Vec::new();
        for _ in 0..MAX_UNPROVEN {
            places.push(unproven.admit(address("::ffff:127.0.0.1")).await);
        }
        let began = Instant::now();
        let next = async { unproven.admit(address("127.0.0.1")).await };
        let (_next, ()) = tokio::join!(next, async { drop(places.pop()) });
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(places.iter().all(|place| !place.taken.is_cancelled()), "nobody had to go");
    }
}
