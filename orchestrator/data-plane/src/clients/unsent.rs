//! Bounds the response bytes that HTTP/2 clients have not read, per client and in total.
//!
//! Half of the bound is for the clients' allowances: a response within its client's allowance costs only a counter, and
//! if the client does not read it in time its connection ends after its requests. The other half is for held streams of
//! all clients together. Beyond it the clients with the most bytes lose their oldest streams until none has more than
//! its fair share (longest queue drop: Suter, Lakshman, Stiliadis and Choudhury, IEEE JSAC 17(6), 1999).

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Client,
    stream::{STREAM_BYTES, Stream},
};
use crate::config::Limits;

/// Memory of a stream that the HTTP library has forgotten except for its last part.
const FORGOTTEN_BYTES: u64 = 1024;
/// A part given to the HTTP library more recently, in microseconds, is probably in flight rather than unread. Such
/// parts, and the youngest of each client, are dropped last.
const IN_FLIGHT_US: u64 = 1_000_000;
/// Beyond the bound this fraction of it is freed at once, because finding the waiting streams requires a pass over all.
const FREED_SHARE: u64 = 8;

/// Used bytes of a client's allowance.
#[derive(Default)]
struct Used {
    responses: AtomicU64,
    refusals: AtomicU64,
}

impl Used {
    fn all(&self) -> u64 {
        self.responses.load(Ordering::Relaxed) + self.refusals.load(Ordering::Relaxed)
    }
}

/// The unread bytes of one client.
#[derive(Default)]
pub(super) struct Unsent {
    /// By generation: bytes given since the current one began, and bytes given before.
    used: [Used; 2],
    /// Index of the current one.
    generation: AtomicUsize,
    /// Bytes of held streams, and of their parts alone.
    pub(super) held: AtomicU64,
    pub(super) parts: AtomicU64,
    /// Those of them whose streams were reset, but which the HTTP library still has.
    pub(super) cut: AtomicU64,
    /// The held streams.
    streams: Mutex<Vec<Arc<Stream>>>,
}

impl Unsent {
    /// Adds a held stream.
    pub(super) fn enter(&self, stream: Arc<Stream>) {
        self.streams().push(stream);
    }

    /// Removes a held stream.
    pub(super) fn leave(&self, stream: &Stream) {
        let mut streams = self.streams();
        // A linear search: a connection has 1,024 streams at most, of which few are held.
        if let Some(index) = streams.iter().position(|other| std::ptr::eq(Arc::as_ptr(other), stream)) {
            streams.swap_remove(index);
        }
    }

    /// Bytes of held streams.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes of complete responses in its allowance, refusals excluded.
    pub(super) fn responses(&self) -> u64 {
        self.used.iter().map(|used| used.responses.load(Ordering::Relaxed)).sum()
    }

    /// Used bytes of its allowance.
    pub(super) fn forgotten(&self) -> u64 {
        self.used.iter().map(Used::all).sum()
    }

    /// A number that changes as the client reads.
    pub(super) fn mark(&self) -> u64 {
        self.held() + self.responses()
    }

    /// Begins a generation. Returns true if bytes from before the previous one are still unread.
    pub(super) fn begin_generation(&self) -> bool {
        // Two counters in place of a time for each response: what is overdue is known to within one time-out.
        let next = 1 - self.generation.load(Ordering::Relaxed);
        self.generation.store(next, Ordering::Relaxed);
        self.used.get(next).is_some_and(|used| used.all() > 0)
    }

    /// Resets the held streams that are overdue at `now_us` and returns the next deadline.
    pub(super) fn cut_late(&self, now_us: u64) -> Option<u64> {
        self.streams().iter().filter_map(|stream| stream.cut_if_late(now_us)).min()
    }

    /// Bytes of held streams that were not reset.
    fn lasting(&self) -> u64 {
        self.held().saturating_sub(self.cut.load(Ordering::Relaxed))
    }

    /// The oldest waiting streams that exceed `fair_share` bytes.
    fn beyond(&self, fair_share: u64) -> Vec<Waiting> {
        let mut remaining = self.lasting();
        // A snapshot: the streams of all clients are put in one order before any of them is reset.
        let streams = self.streams();
        let mut waiting: Vec<_> = streams.iter().filter_map(Waiting::on).collect();
        drop(streams);
        waiting.sort_unstable_by_key(|waiting| waiting.oldest_us);
        if let Some(youngest) = waiting.last_mut() {
            youngest.is_youngest = true;
        }
        waiting.retain(|waiting| {
            let is_beyond = remaining > fair_share;
            remaining = remaining.saturating_sub(waiting.bytes);
            is_beyond
        });
        waiting
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unread header sections. Flow control does not apply to them, so they wait only while the socket is blocked: bytes
/// that it takes are set off against them. Concurrent streams may count as one.
#[derive(Default)]
pub(super) struct Heads {
    /// Bytes that had not left when the socket had taken `written` bytes.
    bytes: AtomicU64,
    written: AtomicU64,
}

impl Heads {
    /// Adds a section of `bytes`, given to the HTTP library when the socket had taken `written` bytes.
    pub(super) fn give(&self, bytes: u64, written: u64) {
        self.bytes.store(self.left(written) + bytes, Ordering::Relaxed);
        self.written.store(written, Ordering::Relaxed);
    }

    /// Upper bound of the bytes left when the socket has taken `written`: sections leave compressed.
    pub(super) fn left(&self, written: u64) -> u64 {
        let since = written.saturating_sub(self.written.load(Ordering::Relaxed));
        self.bytes.load(Ordering::Relaxed).saturating_sub(since)
    }

    /// Clears the count: the socket is not blocked, so all sections have left.
    pub(super) fn clear(&self) {
        if self.bytes.load(Ordering::Relaxed) > 0 {
            self.bytes.store(0, Ordering::Relaxed);
        }
    }
}

/// A reservation in a client's allowance, for a complete response.
pub(super) struct Reservation {
    client: Arc<Client>,
    bytes: u64,
    is_refusal: bool,
    generation: usize,
}

impl Reservation {
    /// Reserves bytes for the only part of a response and for its stream, if they fit. Concurrent streams may exceed
    /// the allowance by one each.
    pub(super) fn of(client: &Arc<Client>, part: u64, is_refusal: bool) -> Option<(Self, Self)> {
        let bytes = part + FORGOTTEN_BYTES;
        let allowance = client.plane.unsent.allowance(client.limits());
        let fits = client.unsent.forgotten() + bytes + STREAM_BYTES <= allowance;
        fits.then(|| (Self::new(client, bytes, is_refusal), Self::new(client, STREAM_BYTES, is_refusal)))
    }

    fn new(client: &Arc<Client>, bytes: u64, is_refusal: bool) -> Self {
        let generation = client.unsent.generation.load(Ordering::Relaxed);
        let reservation = Self { client: client.clone(), bytes, is_refusal, generation };
        reservation.used().fetch_add(bytes, Ordering::Relaxed);
        reservation
    }

    /// Counts the response as broken if it was dropped because the connection was ended here. A connection that the
    /// client closes is no failure.
    pub(super) fn lose(&self) {
        if !self.is_refusal && self.client.is_cut() {
            self.client.plane.metrics.response_broken();
        }
    }

    fn used(&self) -> &AtomicU64 {
        let used = &self.client.unsent.used[self.generation];
        if self.is_refusal { &used.refusals } else { &used.responses }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used().fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A stream that waits for its client.
struct Waiting {
    /// It is the youngest waiting stream of its client.
    is_youngest: bool,
    oldest_us: u64,
    bytes: u64,
    stream: Arc<Stream>,
}

impl Waiting {
    fn on(stream: &Arc<Stream>) -> Option<Self> {
        let (oldest_us, bytes) = stream.waits()?;
        Some(Self { is_youngest: false, oldest_us, bytes, stream: stream.clone() })
    }
}

/// The unread bytes of all clients.
#[derive(Default)]
pub(crate) struct AllUnsent {
    /// Open HTTP/2 connections.
    connections: AtomicU64,
    /// Bytes of held streams.
    pub(super) held: AtomicU64,
    /// Bytes of streams that were reset, but which the HTTP library still has.
    pub(super) cut: AtomicU64,
    clients: Mutex<VecDeque<Weak<Client>>>,
}

impl AllUnsent {
    /// Registers an HTTP/2 client until the returned guard is dropped.
    pub(crate) fn enter(client: &Arc<Client>) -> Entered {
        let unsent = &client.plane.unsent;
        unsent.connections.fetch_add(1, Ordering::Relaxed);
        unsent.remember(client);
        Entered(client.clone())
    }

    /// Bytes that each client may leave unread. It decreases with the number of connections.
    fn allowance(&self, limits: &Limits) -> u64 {
        let part = limits.unsent_responses.as_u64() / 2 / self.connections.load(Ordering::Relaxed).max(1);
        part.min(limits.unsent_allowance.as_u64())
    }

    fn remember(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Ended ones are dropped as others come.
        for _ in 0..clients.len().min(2) {
            let seen = clients.pop_front();
            clients.extend(seen.filter(|seen| seen.strong_count() > 0));
        }
        clients.push_back(Arc::downgrade(client));
    }

    /// Resets streams while held streams exceed half of `limits.unsent_responses`.
    pub(super) fn relieve(&self, limits: &Limits, now_us: u64) {
        let max_held = limits.unsent_responses.as_u64() / 2;
        if self.lasting() <= max_held {
            return;
        }
        let clients = match self.clients.try_lock() {
            Ok(clients) => clients,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // The holder of the lock does the same, or is done in a moment.
            Err(TryLockError::WouldBlock) => return,
        };
        let target = max_held - max_held / FREED_SHARE;
        let holders: Vec<_> = clients.iter().filter_map(Weak::upgrade).collect();
        let fair_share = fair_share(holders.iter().map(|client| client.unsent.lasting()).collect(), target);
        let mut waiting: Vec<_> = holders.iter().flat_map(|client| client.unsent.beyond(fair_share)).collect();
        waiting.sort_unstable_by_key(|waiting| {
            let is_young = now_us < waiting.oldest_us.saturating_add(IN_FLIGHT_US);
            (is_young, waiting.is_youngest, waiting.oldest_us)
        });
        for Waiting { stream, .. } in waiting {
            if self.lasting() <= target {
                break;
            }
            stream.cut();
        }
        drop(clients);
    }

    /// Bytes of streams that were not reset.
    fn lasting(&self) -> u64 {
        self.held.load(Ordering::Relaxed).saturating_sub(self.cut.load(Ordering::Relaxed))
    }
}

/// The most bytes that each may keep so that all together keep at most `target` (max-min fairness).
fn fair_share(mut each: Vec<u64>, target: u64) -> u64 {
    each.sort_unstable();
    let mut left = target;
    let mut others = each.len() as u64;
    for bytes in each {
        let share = left / others;
        if bytes > share {
            return share;
        }
        left -= bytes;
        others -= 1;
    }
    u64::MAX
}

/// Guard of a registered HTTP/2 client.
pub(crate) struct Entered(Arc<Client>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.plane.unsent.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_depends_on_open_connections_only() {
        let limits = Limits { descriptors: 1 << 20, ..Limits::default() };
        let unsent = AllUnsent::default();
        assert_eq!(unsent.allowance(&limits), 64 * 1024);
        unsent.connections.store(4096, Ordering::Relaxed);
        assert_eq!(unsent.allowance(&limits), 32 * 1024, "half of the bound, in equal parts");
    }

    #[test]
    fn bytes_saved_by_compression_do_not_add_up() {
        let (heads, mut written) = (Heads::default(), 0);
        for _ in 0..1000 {
            heads.give(300, written);
            written += 30;
        }
        assert!(heads.left(written) > 200_000);
        heads.clear();
        heads.give(300, written);
        assert_eq!(heads.left(written), 300);
    }

    #[test]
    fn the_fair_share_reduces_the_largest_holders_first() {
        assert_eq!(fair_share(vec![], 10), u64::MAX);
        assert_eq!(fair_share(vec![3, 4], 10), u64::MAX, "there is room");
        assert_eq!(fair_share(vec![3, 100], 10), 7);
        assert_eq!(fair_share(vec![100, 3, 100], 10), 3);
        assert_eq!(fair_share(vec![0, 0, 20], 10), 10);
        assert_eq!(fair_share(vec![50, 60, 70], 90), 30);
    }
}
