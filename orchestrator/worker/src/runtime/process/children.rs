//! The registry of those children of this process that are the main processes of sandboxes.
//!
//! Any other adopted child is a leftover of a sandbox that has ended, because a main process is the reaper of its own
//! descendants while it lives. There is one registry for all workers of this process, because each of them sees the
//! children of all.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::unistd::getpid;

use super::process_table::{Id, ProcessTable};

static CHILDREN: Mutex<Option<ChildRegistry>> = Mutex::new(None);

#[derive(Default)]
struct ChildRegistry {
    /// Number of starts so far.
    starts: u64,
    /// Starts whose process is not known yet.
    under_way: BTreeSet<u64>,
    /// Main processes with their starts. The system reuses the number of a process; a start is unique.
    main: HashMap<i32, u64>,
    /// Children that are older than the first sandbox, for example of a shell that has executed this program.
    foreign: HashSet<Id>,
}

/// A snapshot of the registry.
pub(super) struct Children {
    starts: u64,
    oldest_under_way: Option<u64>,
    main: HashSet<i32>,
    foreign: HashSet<Id>,
}

/// The start of a process, from before the fork until its number is known.
pub(super) struct PendingStart(u64);

/// The main process of a sandbox. To be dropped when it is reaped.
pub(super) struct MainProcess {
    pid: i32,
    start: u64,
}

impl PendingStart {
    /// To be called before the fork.
    pub(super) fn begin() -> Self {
        with(|registry| {
            registry.starts += 1;
            registry.under_way.insert(registry.starts);
            Self(registry.starts)
        })
    }

    /// The start has created the process `pid`.
    pub(super) fn finish(self, pid: i32) -> MainProcess {
        let start = self.0;
        // Inserted before the drop of `self`, so that a snapshot always has either the start or its process.
        with(|registry| registry.main.insert(pid, start));
        MainProcess { pid, start }
    }
}

impl Drop for PendingStart {
    fn drop(&mut self) {
        with(|registry| registry.under_way.remove(&self.0));
    }
}

impl MainProcess {
    /// Unique, unlike the number of the process.
    pub(super) fn start(&self) -> u64 {
        self.start
    }
}

impl Drop for MainProcess {
    fn drop(&mut self) {
        with(|registry| {
            // The system may have given its number to the main process of another sandbox already.
            if registry.main.get(&self.pid) == Some(&self.start) {
                registry.main.remove(&self.pid);
            }
        });
    }
}

impl Children {
    /// To be taken after the snapshot of processes that it is compared with: each main process there is then known, or
    /// its start is under way.
    pub(super) fn now() -> Self {
        with(|registry| Self {
            starts: registry.starts,
            oldest_under_way: registry.under_way.first().copied(),
            main: registry.main.keys().copied().collect(),
            foreign: registry.foreign.clone(),
        })
    }

    /// Returns true if a child is the main process of a sandbox or older than any sandbox.
    pub(super) fn is_known(&self, child: Id) -> bool {
        self.main.contains(&child.pid) || self.foreign.contains(&child)
    }

    /// Number of starts so far. A child seen now comes from one of them or was adopted.
    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    /// Returns true if the processes of the first `starts` starts are all known.
    pub(super) fn have_ended(&self, starts: u64) -> bool {
        self.oldest_under_way.is_none_or(|oldest| oldest > starts)
    }
}

fn with<T>(access: impl FnOnce(&mut ChildRegistry) -> T) -> T {
    // Every change leaves the registry consistent, so a panic of another holder does not make it unusable.
    let mut registry: MutexGuard<'_, _> = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    access(registry.get_or_insert_default())
}

/// Records the children that this process has before its first sandbox.
pub(super) fn record_foreign() {
    with(|registry| {
        // Once only: later the main processes of other workers are among the children.
        if registry.starts == 0
            && let Ok(table) = ProcessTable::take()
        {
            registry.foreign = table.children(getpid().as_raw()).map(|child| child.id).collect();
        }
    });
}
