//! What is enforced on a timer: sandboxes keep to their memory, and nothing of an ended one goes on.
//!
//! `RLIMIT_DATA` holds for each process by itself and leaves shared memory out; a process group is left by `setsid`. So
//! each pass looks at the whole tree of a sandbox. Its main process is the reaper of its descendants while it lives, and
//! the worker is afterwards: what loses its parent never gets out of sight.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytesize::ByteSize;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getpgrp, getpid},
};
use tokio::time::sleep;
use tracing::warn;

use super::{
    Shared,
    children::Children,
    limits::Limits,
    process_table::{Entry, Id, ProcessTable},
};

/// Passes after the end of a sandbox. What it left is there at the first one; the second finds what was just being
/// started.
const PASSES_AFTER_END: u32 = 2;
/// Passes at the worker's own end, each of which may uncover more.
const LAST_PASSES: u32 = 5;

/// A sandbox with a process, as far as it is watched.
#[derive(Clone)]
pub(super) struct Watched {
    /// Its main process.
    pub(super) pid: i32,
    /// Different for each start of a process.
    pub(super) start: u64,
    pub(super) limits: Arc<Limits>,
    /// Set when it is ended for what it did: the reason.
    pub(super) cause: Arc<OnceLock<String>>,
}

/// Memory that all processes of a sandbox may hold together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) function: ByteSize,
    pub(super) headroom: ByteSize,
}

impl Allowance {
    /// All of it.
    pub(super) fn bytes(self) -> u64 {
        self.function.as_u64().saturating_add(self.headroom.as_u64())
    }
}

/// What earlier passes found.
#[derive(Default)]
pub(super) struct Monitor {
    /// Descendants of each living sandbox: one may have given up being their reaper.
    descendants: HashMap<u64, Vec<Id>>,
    /// Passes that are still due after the end of sandboxes.
    due: u32,
    /// Children that may be main processes of starts under way, and how many starts there were when they were first seen.
    unknown: HashMap<Id, u64>,
    /// Ended processes that nobody has reaped yet.
    zombies: HashSet<Id>,
}

/// Makes passes until the runtime is no more.
pub(super) async fn run(shared: Weak<Shared>, interval: Duration) {
    loop {
        sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        if tokio::task::spawn_blocking(move || shared.monitor()).await.is_err() {
            warn!("a pass over the sandboxes' processes failed");
        }
    }
}

impl Monitor {
    /// Returns true if there is nothing to look for but living sandboxes.
    pub(super) fn is_idle(&self) -> bool {
        self.due == 0 && self.zombies.is_empty() && self.unknown.is_empty()
    }

    /// One pass. `has_ended`: a sandbox has ended since the last one.
    pub(super) fn pass(&mut self, watched: &[Watched], has_ended: bool) {
        self.due = if has_ended { PASSES_AFTER_END } else { self.due };
        let table = match ProcessTable::take() {
            Ok(table) => table,
            Err(error) => return warn!(cause = %error, "cannot list processes: memory is not watched"),
        };
        let children = Children::now();
        self.descendants.clear();
        for sandbox in watched {
            let tree = table.tree(sandbox.pid);
            enforce(sandbox, &tree);
            let descendants = tree.iter().map(|entry| entry.id).filter(|id| id.pid != sandbox.pid).collect();
            self.descendants.insert(sandbox.start, descendants);
        }
        self.clear_up(&table, &children);
        self.due = self.due.saturating_sub(1);
    }

    /// Passes at the end of the worker, when no sandbox lives any more.
    pub(super) fn finish(&mut self) {
        for _ in 0..LAST_PASSES {
            self.pass(&[], false);
            if self.is_idle() {
                return;
            }
        }
    }

    /// Ends what ended sandboxes left behind. Their processes have groups of their own: what is in this process's group
    /// was not started by the runtime.
    fn clear_up(&mut self, table: &ProcessTable, children: &Children) {
        let group = getpgrp().as_raw();
        let adopted =
            table.children(getpid().as_raw()).filter(|child| child.group != group && !children.is_known(child.id));
        let (mut zombies, mut unknown) = (HashSet::new(), HashMap::new());
        for child in adopted {
            if child.is_zombie {
                // The runtime reaps main processes itself, at once; what is still there at the next pass is adopted.
                if !self.zombies.contains(&child.id) || waitpid(pid(child.id), Some(WaitPidFlag::WNOHANG)).is_err() {
                    zombies.insert(child.id);
                }
                continue;
            }
            let starts = self.unknown.get(&child.id).copied().unwrap_or_else(|| children.starts());
            if !children.have_ended(starts) {
                unknown.insert(child.id, starts);
            } else if !self.is_of_living(child.id) {
                end(&table.tree(child.id.pid));
                zombies.insert(child.id);
            }
        }
        (self.zombies, self.unknown) = (zombies, unknown);
    }

    fn is_of_living(&self, process: Id) -> bool {
        self.descendants.values().any(|known| known.contains(&process))
    }
}

/// Ends a sandbox that holds more memory than it may.
fn enforce(sandbox: &Watched, tree: &[Entry]) {
    if let Some(cause) = sandbox.limits.broken() {
        let _ = sandbox.cause.set(cause);
        return end(tree);
    }
    let Some(allowance @ Allowance { function, headroom }) = sandbox.limits.watched() else { return };
    let most = allowance.bytes();
    let sum = |of: fn(&Entry) -> u64| tree.iter().map(of).fold(0, u64::saturating_add);
    if sum(Entry::resident_bytes) <= most {
        return;
    }
    let held = sum(Entry::held_bytes);
    if held <= most {
        return;
    }
    let (held, processes) = (ByteSize::b(held), tree.len());
    let cause = format!(
        "ended because it held {held} of memory in {processes} processes: its function has {function}, and {headroom} are \
         allowed beyond (process.resident_headroom)"
    );
    // The first reason stays.
    let _ = sandbox.cause.set(cause);
    end(tree);
}

/// Kills processes that are still those that were seen. One that has ended meanwhile is no failure.
fn end(tree: &[Entry]) {
    for id in tree.iter().map(|entry| entry.id).filter(|id| id.is_current()) {
        let _ = kill(pid(id), Signal::SIGKILL);
    }
}

fn pid(id: Id) -> Pid {
    Pid::from_raw(id.pid)
}
