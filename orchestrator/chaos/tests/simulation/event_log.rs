//! The log of events with the simulated time in milliseconds: one list for all hosts, in the order of the events.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::event::Event;

/// An event and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Milliseconds of simulated time since the run began.
    pub(crate) at_ms: u64,
    pub(crate) event: Event,
}

/// The list under construction. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Set by the loop that steps the simulation. Hosts are stepped one after the other, so a finer time would not
    /// be in the order of the list; and while a host is being crashed it has no clock at all.
    now_ms: AtomicU64,
    entries: Mutex<Vec<Entry>>,
    /// Clients of which every invocation has ended.
    clients_done: AtomicUsize,
}

impl EventLog {
    /// Appends an event with the current time.
    pub(crate) fn record(&self, event: Event) {
        let entry = Entry { at_ms: self.now_ms(), event };
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Sets the current time.
    pub(crate) fn set_now_ms(&self, ms: u64) {
        self.0.now_ms.store(ms, Ordering::Relaxed);
    }

    /// The current time, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }

    /// Counts a client of which every invocation has ended.
    pub(crate) fn client_done(&self) {
        self.0.clients_done.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of those clients.
    pub(crate) fn clients_done(&self) -> usize {
        self.0.clients_done.load(Ordering::Relaxed)
    }

    /// Removes and returns all entries.
    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} {}", self.at_ms, self.event)
    }
}
