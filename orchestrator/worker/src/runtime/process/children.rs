//! Which children of this process are the main processes of sandboxes. Whatever else it adopted was left by a sandbox
//! that has ended: while a main process lives, it is itself the reaper of its descendants.
//!
//! One register for all runtimes of this process, because each of them sees the children of all.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::unistd::getpid;

use super::process_table::{Id, ProcessTable};

static CHILDREN: Mutex<Option<Register>> = Mutex::new(None);

#[derive(Default)]
struct Register {
    /// Starts so far.
    starts: u64,
    /// Starts of which it is not known yet which process they made.
    under_way: BTreeSet<u64>,
    /// Main processes, with their starts: a number is used again by the system, a start is not.
    main: HashMap<i32, u64>,
    /// Children from before the first sandbox, for example of a shell that became this program.
    foreign: HashSet<Id>,
}

/// What the register says at one moment.
pub(super) struct Children {
    starts: u64,
    oldest_under_way: Option<u64>,
    main: HashSet<i32>,
    foreign: HashSet<Id>,
}

/// The start of a process, from before it is made until its number is known.
pub(super) struct Start(u64);

/// The main process of a sandbox, until it is reaped.
pub(super) struct Main {
    pid: i32,
    start: u64,
}

impl Start {
    /// To be called before the process is made.
    pub(super) fn begin() -> Self {
        with(|register| {
            register.starts += 1;
            register.under_way.insert(register.starts);
            Self(register.starts)
        })
    }

    /// It made the process of this number.
    pub(super) fn made(self, pid: i32) -> Main {
        let start = self.0;
        // Before the start ends, so that the process is known without a gap.
        with(|register| register.main.insert(pid, start));
        Main { pid, start }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        with(|register| register.under_way.remove(&self.0));
    }
}

impl Main {
    /// Different for each start of a process.
    pub(super) fn start(&self) -> u64 {
        self.start
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        with(|register| {
            if register.main.get(&self.pid) == Some(&self.start) {
                register.main.remove(&self.pid);
            }
        });
    }
}

impl Children {
    /// To be called after the snapshot of processes that it is compared with: what is a main process there is known by
    /// now, or its start is under way.
    pub(super) fn now() -> Self {
        with(|register| Self {
            starts: register.starts,
            oldest_under_way: register.under_way.first().copied(),
            main: register.main.keys().copied().collect(),
            foreign: register.foreign.clone(),
        })
    }

    /// Whether a child is the main process of a sandbox, or was there before any.
    pub(super) fn is_known(&self, child: Id) -> bool {
        self.main.contains(&child.pid) || self.foreign.contains(&child)
    }

    /// Starts so far: a child seen now was made by one of them, or adopted.
    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    /// Whether all of the first `starts` starts have ended: what one of them made is known.
    pub(super) fn have_ended(&self, starts: u64) -> bool {
        self.oldest_under_way.is_none_or(|oldest| oldest > starts)
    }
}

fn with<T>(look: impl FnOnce(&mut Register) -> T) -> T {
    // Every change leaves the register whole, so a panic elsewhere does not make it unusable.
    let mut register: MutexGuard<'_, _> = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    look(register.get_or_insert_default())
}

/// Takes note of the children that this process has before its first sandbox.
pub(super) fn note_foreign() {
    with(|register| {
        if register.starts == 0
            && let Ok(table) = ProcessTable::take()
        {
            register.foreign = table.children(getpid().as_raw()).map(|child| child.id).collect();
        }
    });
}
