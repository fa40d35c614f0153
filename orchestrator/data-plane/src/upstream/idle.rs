//! Idle connections over all sandboxes, kept below a bound: beyond it the least recently used sandboxes lose theirs.
//!
//! The warm path pays one atomic addition; the order is looked at only when the bound is passed, and then a quarter is
//! closed at once, so that the cost per connection stays constant.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use model::SandboxId;

use super::Sandbox;
use crate::plane::Plane;

/// Counts idle connections and knows whose they are.
pub(crate) struct IdleLinks {
    limit: usize,
    count: AtomicUsize,
    owners: Mutex<Owners>,
}

#[derive(Default)]
struct Owners {
    sandboxes: BTreeMap<SandboxId, Weak<Sandbox>>,
    /// How many to have before looking for those that are no more.
    prune_at: usize,
}

/// Owners below which no pruning is worth its while.
const FEW_OWNERS: usize = 64;

impl IdleLinks {
    /// At most `limit` idle connections.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, count: AtomicUsize::new(0), owners: Mutex::default() }
    }

    /// One was put aside. True when there are too many now.
    pub(crate) fn put(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) >= self.limit
    }

    /// `count` were taken or closed.
    pub(crate) fn taken(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// `sandbox` has idle connections for the first time.
    pub(crate) fn enlist(&self, sandbox: &Arc<Sandbox>) {
        let mut owners = self.lock();
        owners.sandboxes.insert(sandbox.id(), Arc::downgrade(sandbox));
        if owners.sandboxes.len() >= owners.prune_at {
            owners.sandboxes.retain(|_, sandbox| sandbox.strong_count() > 0);
            owners.prune_at = (owners.sandboxes.len() * 2).max(FEW_OWNERS);
        }
    }

    /// Closes the least recently used until a quarter of the bound is free.
    pub(crate) fn shed(&self, plane: &Plane) {
        let mut owners: Vec<_> = {
            let owners = self.lock();
            let living = owners.sandboxes.values().filter_map(Weak::upgrade);
            living.filter(|sandbox| sandbox.has_idle()).map(|sandbox| (sandbox.used_us(), sandbox)).collect()
        };
        owners.sort_unstable_by_key(|(used_us, sandbox)| (*used_us, sandbox.id()));
        for (_, sandbox) in owners {
            if self.count() <= self.limit - self.limit / 4 {
                return;
            }
            sandbox.shed_idle(plane);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
