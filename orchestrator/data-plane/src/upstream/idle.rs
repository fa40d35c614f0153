//! Bounds the idle connections over all sandboxes: beyond the bound the least recently used sandboxes lose theirs.
//!
//! The warm path pays one atomic addition. The order is computed only when the bound is exceeded, for a quarter of the
//! bound at a time. Those connections are then closed a few at a time: closing a thousand at once would delay
//! everything else by tens of milliseconds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use model::SandboxId;
use tokio::{
    task::yield_now,
    time::{MissedTickBehavior, interval},
};

use super::Sandbox;
use crate::plane::Plane;

/// Counts idle connections and tracks their owners.
pub(crate) struct IdleConnections {
    limit: usize,
    count: AtomicUsize,
    owners: Mutex<Owners>,
}

#[derive(Default)]
struct Owners {
    sandboxes: BTreeMap<SandboxId, Weak<Sandbox>>,
    /// Number of owners at which dropped ones are pruned.
    prune_at: usize,
    /// Owners in the order in which they lose their connections, with the time of last use when the order was computed.
    oldest: VecDeque<(u64, Weak<Sandbox>)>,
}

/// Sandboxes that lose their connections together when the bound is exceeded. So many take about a millisecond; closing
/// them together saves wakeups on both sides.
pub(crate) const MAX_SHED_AT_ONCE: usize = 32;

/// Period in which expired connections are closed. An expired connection is not used even before that.
const AGED_PERIOD: Duration = Duration::from_secs(1);

/// Number of owners below which pruning does not pay.
const MIN_PRUNE_OWNERS: usize = 64;

impl IdleConnections {
    /// Allows `limit` idle connections.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, count: AtomicUsize::new(0), owners: Mutex::default() }
    }

    /// Counts an idle connection. Returns true if there are too many now.
    pub(crate) fn put(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) >= self.limit
    }

    /// Uncounts `count` connections that were used or closed.
    pub(crate) fn taken(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Registers `sandbox`, which has idle connections for the first time.
    pub(crate) fn enlist(&self, sandbox: &Arc<Sandbox>) {
        let mut owners = self.lock();
        owners.sandboxes.insert(sandbox.id(), Arc::downgrade(sandbox));
        if owners.sandboxes.len() >= owners.prune_at {
            // The list at least doubles before it is scanned again, so registration costs O(1) amortised.
            owners.sandboxes.retain(|_, sandbox| sandbox.strong_count() > 0);
            owners.prune_at = (owners.sandboxes.len() * 2).max(MIN_PRUNE_OWNERS);
        }
    }

    /// Closes some until a quarter of the bound is free.
    pub(crate) fn shed_beyond(&self, plane: &Plane) {
        self.shed(plane, MAX_SHED_AT_ONCE, self.limit - self.limit / 4);
    }

    /// Closes half of them because the process is out of file descriptors.
    pub(crate) fn shed_many(&self, plane: &Plane) {
        self.shed(plane, self.limit, self.count() / 2);
    }

    /// Closes the connections of the least recently used sandboxes, of `max_sandboxes` at most, while there are more
    /// than `kept`.
    pub(crate) fn shed(&self, plane: &Plane, max_sandboxes: usize, kept: usize) {
        for _ in 0..max_sandboxes {
            if self.count() <= kept {
                return;
            }
            let Some(sandbox) = self.least_recently_used() else { return };
            sandbox.shed_idle(plane);
        }
    }

    /// The next sandbox to lose its connections; it is not returned again before all others were.
    fn least_recently_used(&self) -> Option<Arc<Sandbox>> {
        let mut owners = self.lock();
        if owners.oldest.is_empty() {
            // A quarter of the bound is closed before the order is computed again, so more of it would not be used.
            owners.oldest = owners.in_order_of_use(self.limit / 4 + 1);
        }
        loop {
            let (used_us, sandbox) = owners.oldest.pop_front()?;
            // It may have been used since the order was computed.
            let unused = |sandbox: &Arc<Sandbox>| sandbox.used_us() == used_us && sandbox.has_idle();
            if let Some(sandbox) = sandbox.upgrade().filter(unused) {
                return Some(sandbox);
            }
        }
    }

    /// Sandboxes that may have idle connections.
    fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.lock().sandboxes.values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections that exceed their idle timeout. Never returns.
pub(crate) async fn close_aged(plane: Arc<Plane>) {
    let mut ticks = interval(AGED_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now_us = plane.clock.now_us();
        let mut closed = 0;
        for sandbox in plane.idle.sandboxes() {
            closed += sandbox.close_aged(&plane, now_us);
            if closed >= MAX_SHED_AT_ONCE {
                closed = 0;
                // Closing 1,250 connections at once delayed all invocations by 28 ms.
                yield_now().await;
            }
        }
    }
}

impl Owners {
    /// The `max_sandboxes` least recently used sandboxes that have idle connections.
    fn in_order_of_use(&self, max_sandboxes: usize) -> VecDeque<(u64, Weak<Sandbox>)> {
        let living = self.sandboxes.iter().filter_map(|(id, sandbox)| Some((id, sandbox, sandbox.upgrade()?)));
        let idle = living.filter(|(_, _, living)| living.has_idle());
        let mut order: Vec<_> = idle.map(|(id, sandbox, living)| (living.used_us(), *id, sandbox)).collect();
        order.sort_unstable_by_key(|(used_us, id, _)| (*used_us, *id));
        order.into_iter().take(max_sandboxes).map(|(used_us, _, sandbox)| (used_us, sandbox.clone())).collect()
    }
}
