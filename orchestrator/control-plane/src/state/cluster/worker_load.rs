//! Number of sandboxes of each worker, on all of its nodes together: at most as many as its next hello may name.
//!
//! A hello that named more would be refused, and the worker's sandboxes would be lost.

use std::sync::Arc;

use super::super::Map;
use crate::message::MAX_SANDBOXES;

/// A worker that has been full gets further sandboxes when it has so many fewer. Opening and closing goes through all
/// nodes, which sandboxes that come and go are not to cause each time.
const REOPENED_BELOW: usize = MAX_SANDBOXES - 256;

/// The workers that have sandboxes, connected or not.
#[derive(Debug, Default)]
pub(in crate::state) struct WorkerLoads(Map<Arc<str>, Load>);

#[derive(Debug, Default)]
struct Load {
    sandboxes: usize,
    is_full: bool,
}

impl WorkerLoads {
    #[cfg(test)]
    pub(super) fn sandboxes(&self) -> std::collections::BTreeMap<&str, usize> {
        self.0.iter().map(|(worker, load)| (&**worker, load.sandboxes)).collect()
    }

    /// Returns true if a worker gets no further sandbox.
    pub(in crate::state) fn is_full(&self, worker: &str) -> bool {
        self.0.get(worker).is_some_and(|load| load.is_full)
    }

    /// A worker has so many more. Returns true if it is full since then.
    pub(in crate::state) fn add(&mut self, worker: &Arc<str>, sandboxes: usize) -> bool {
        if sandboxes == 0 {
            return false;
        }
        let load = match self.0.get_mut(worker) {
            Some(load) => load,
            None => self.0.entry(worker.clone()).or_default(),
        };
        load.sandboxes += sandboxes;
        let is_filled = !load.is_full && load.sandboxes >= MAX_SANDBOXES;
        load.is_full |= is_filled;
        is_filled
    }

    /// A worker has so many fewer. Returns true if it is full no longer since then.
    pub(in crate::state) fn subtract(&mut self, worker: &Arc<str>, sandboxes: usize) -> bool {
        let Some(load) = self.0.get_mut(worker) else { return false };
        debug_assert!(sandboxes <= load.sandboxes, "what is subtracted was added");
        load.sandboxes = load.sandboxes.saturating_sub(sandboxes);
        let reopens = load.is_full && load.sandboxes < REOPENED_BELOW;
        load.is_full &= !reopens;
        if load.sandboxes == 0 {
            self.0.remove(worker);
        }
        reopens
    }
}
