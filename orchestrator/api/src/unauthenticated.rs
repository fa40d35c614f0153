//! Bound on connections that have not authenticated themselves, and the choice of the one to evict when another one
//! arrives.

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

/// Maximum number of unauthenticated connections: a quarter of the smallest limit of open files that the programs
/// accept, so that they cannot use up the file descriptors.
pub(crate) const MAX_UNAUTHENTICATED: usize = 256;
/// Minimum age at which a connection may be evicted. A peer has usually sent its request by the time it is accepted;
/// this allows for a slow network and a busy machine.
const EVICTION_GRACE: Duration = Duration::from_millis(100);
/// Prefix length that identifies the network of an IPv6 address (bits).
const NETWORK_BITS: u32 = 64;

/// The unauthenticated connections of one port.
///
/// Everybody who can reach the port may open connections and send nothing. If new connections waited until such a
/// connection timed out, a client that opens them fast enough would lock out all peers. Therefore each connection is
/// accepted, and at the bound it evicts another one:
///
///  * One of the address with the most connections, since a peer has one: a client that opens many from a few addresses
///    evicts only its own. An IPv6 network counts as one address, because one machine has all of it.
///  * The oldest one of that address. A peer behind the same address, or one among more addresses than permits, then
///    has the longest possible time to authenticate; a random choice could evict one that is about to.
///  * None younger than [`EVICTION_GRACE`], however fast new ones arrive. Until then the newest connection waits, and
///    later ones wait in the listener's backlog. At least [`MAX_UNAUTHENTICATED`] are accepted per [`EVICTION_GRACE`],
///    which is 2560 per second, so a connection behind a full backlog (4096) is accepted within two seconds, before its
///    peer times out.
#[derive(Default)]
pub(crate) struct UnauthenticatedConnections {
    table: Mutex<Table>,
    /// Notified when a permit is released.
    permit_released: Notify,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By order of arrival.
    connections: BTreeMap<u64, Connection>,
}

struct Connection {
    origin: IpAddr,
    accepted_at: Instant,
    evicted: CancellationToken,
}

/// Permission of one connection to be open; released when dropped.
pub(crate) struct Permit {
    id: u64,
    owner: Arc<UnauthenticatedConnections>,
    /// Cancelled when another connection has evicted this one.
    pub(crate) evicted: CancellationToken,
}

impl UnauthenticatedConnections {
    /// Returns a permit for a connection from `address`. At the bound it waits at most [`EVICTION_GRACE`]. Must not be
    /// called concurrently, since only one waiter is notified.
    pub(crate) async fn admit(self: &Arc<Self>, address: IpAddr) -> Permit {
        loop {
            let due = match self.try_admit(origin(address)) {
                Ok(permit) => return permit,
                Err(due) => due,
            };
            tokio::select! {
                biased;
                () = self.permit_released.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Returns a permit, or the time at which one can be obtained by eviction.
    fn try_admit(self: &Arc<Self>, origin: IpAddr) -> Result<Permit, Instant> {
        let (mut table, now) = (self.lock(), Instant::now());
        if table.connections.len() >= MAX_UNAUTHENTICATED
            && let Some((id, due)) = table.victim()
        {
            if due > now {
                return Err(due);
            }
            if let Some(victim) = table.connections.remove(&id) {
                victim.evicted.cancel();
            }
        }
        let (id, evicted) = (table.next, CancellationToken::new());
        table.next += 1;
        table.connections.insert(id, Connection { origin, accepted_at: now, evicted: evicted.clone() });
        Ok(Permit { id, owner: Arc::clone(self), evicted })
    }

    /// Ignores poisoning: the table is consistent after each step of a change.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Returns the connection to evict next and the time from which it may be evicted: the oldest one of the origin
    /// with the most connections.
    fn victim(&self) -> Option<(u64, Instant)> {
        // Counted anew each time: there are 256 entries at most, and this is called only at the bound.
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.connections.values() {
            *counts.entry(connection.origin).or_default() += 1;
        }
        let rank = |(id, connection): &(&u64, &Connection)| (counts.get(&connection.origin).copied(), Reverse(**id));
        self.connections.iter().max_by_key(rank).map(|(id, victim)| (*id, victim.accepted_at + EVICTION_GRACE))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The place of an evicted connection has been taken already.
        if self.owner.lock().connections.remove(&self.id).is_some() {
            self.owner.permit_released.notify_one();
        }
    }
}

/// Maps an address to the unit that is counted: an IPv4 address, or the network of an IPv6 address.
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
    async fn an_address_with_many_connections_evicts_only_its_own() {
        let unauthenticated = Arc::new(UnauthenticatedConnections::default());
        let peer = unauthenticated.admit(address("192.0.2.1")).await;
        let mut silent = Vec::new();
        for index in 0..10_000 {
            silent.push(unauthenticated.admit(address(&format!("2001:db8::{:x}", index % 1000))).await);
        }
        assert!(!peer.evicted.is_cancelled(), "it is the only one of its address");
        let left = silent.iter().filter(|permit| !permit.evicted.is_cancelled()).count();
        assert_eq!(left, MAX_UNAUTHENTICATED - 1);
        assert!(
            silent[..10_000 - left].iter().all(|permit| permit.evicted.is_cancelled()),
            "the oldest are evicted first"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_is_evicted_at_once_and_none_waits_long() {
        let unauthenticated = Arc::new(UnauthenticatedConnections::default());
        let (mut permits, mut evictions) = (Vec::new(), Vec::new());
        // One connection per address, so that no address has more than the others.
        for index in 0..u32::try_from(MAX_UNAUTHENTICATED).unwrap() * 8 {
            let began = Instant::now();
            let permit = unauthenticated.admit(IpAddr::from((0x0a00_0000 + index).to_be_bytes())).await;
            assert!(began.elapsed() <= EVICTION_GRACE, "{:?}", began.elapsed());
            let evicted = permit.evicted.clone();
            permits.push(permit);
            let accepted_at = Instant::now();
            evictions.push(tokio::spawn(async move {
                evicted.cancelled().await;
                accepted_at.elapsed()
            }));
        }
        evictions.truncate(permits.len() - MAX_UNAUTHENTICATED);
        for eviction in evictions {
            let after = eviction.await.unwrap();
            assert!(after >= EVICTION_GRACE, "evicted after {after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_permit_is_available_without_waiting() {
        let unauthenticated = Arc::new(UnauthenticatedConnections::default());
        let mut permits = Vec::new();
        for _ in 0..MAX_UNAUTHENTICATED {
            permits.push(unauthenticated.admit(address("::ffff:127.0.0.1")).await);
        }
        let began = Instant::now();
        let next = async { unauthenticated.admit(address("127.0.0.1")).await };
        let (_next, ()) = tokio::join!(next, async { drop(permits.pop()) });
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(permits.iter().all(|permit| !permit.evicted.is_cancelled()), "no connection was evicted");
    }
}
