//! The checks on a timer: ends sandboxes that exceed their memory, and the leftover processes of ended ones.
//!
//! `RLIMIT_DATA` limits each process alone and leaves out shared memory, and `setsid` leaves a process group. So each
//! pass inspects the whole process tree of a sandbox. The main process is the reaper of its descendants while it lives,
//! and the worker is afterwards, so no descendant escapes the tree.

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

/// Passes after the end of a sandbox. The first one finds its leftovers, the second one those that were just being
/// started.
const PASSES_AFTER_END: u32 = 2;
/// Most passes at the end of the worker: each may reveal more leftovers.
const MAX_FINAL_PASSES: u32 = 5;

/// The process of a sandbox, as the monitor needs it.
#[derive(Clone)]
pub(super) struct MonitoredSandbox {
    /// Its main process.
    pub(super) pid: i32,
    /// Unique, unlike the number of the process.
    pub(super) start: u64,
    pub(super) limits: Arc<Limits>,
    /// The reason, set when the monitor ends it.
    pub(super) cause: Arc<OnceLock<String>>,
}

/// The memory that all processes of a sandbox together may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryAllowance {
    pub(super) function: ByteSize,
    pub(super) headroom: ByteSize,
}

impl MemoryAllowance {
    /// The sum, in bytes.
    pub(super) fn bytes(self) -> u64 {
        self.function.as_u64().saturating_add(self.headroom.as_u64())
    }
}

/// The findings of earlier passes.
#[derive(Default)]
pub(super) struct Monitor {
    /// Descendants of each running sandbox, by its start. A main process can resign as their reaper, so a descendant
    /// may become a child of the worker while its sandbox runs.
    descendants: HashMap<u64, Vec<Id>>,
    /// Passes left after the end of sandboxes.
    due: u32,
    /// Children that may be main processes of starts under way, with the number of starts when each was first seen.
    unknown: HashMap<Id, u64>,
    /// Zombies that the previous pass found.
    zombies: HashSet<Id>,
}

/// Makes passes until the runtime is dropped.
pub(super) async fn run(shared: Weak<Shared>, interval: Duration) {
    loop {
        sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        // Reading /proc blocks, for some 10 µs per process of the machine.
        if tokio::task::spawn_blocking(move || shared.monitor()).await.is_err() {
            warn!("the monitor failed to check the processes of sandboxes");
        }
    }
}

impl Monitor {
    /// Returns true if a pass has nothing to check but running sandboxes.
    pub(super) fn is_idle(&self) -> bool {
        self.due == 0 && self.zombies.is_empty() && self.unknown.is_empty()
    }

    /// One pass over the running sandboxes. `has_ended`: a sandbox has ended since the last pass.
    pub(super) fn pass(&mut self, running: &[MonitoredSandbox], has_ended: bool) {
        self.due = if has_ended { PASSES_AFTER_END } else { self.due };
        let table = match ProcessTable::take() {
            Ok(table) => table,
            Err(error) => {
                return warn!(cause = %error, "cannot list processes: the memory limit of sandboxes is not enforced");
            }
        };
        // After the processes: a main process that was started in between is then known, and not taken for a leftover.
        let children = Children::now();
        self.descendants.clear();
        for sandbox in running {
            let tree = table.tree(sandbox.pid);
            enforce(sandbox, &tree);
            let descendants = tree.iter().map(|entry| entry.id).filter(|id| id.pid != sandbox.pid).collect();
            self.descendants.insert(sandbox.start, descendants);
        }
        self.end_leftovers(&table, &children);
        self.due = self.due.saturating_sub(1);
    }

    /// The passes at the end of the worker, after the last sandbox.
    pub(super) fn finish(&mut self) {
        for _ in 0..MAX_FINAL_PASSES {
            self.pass(&[], false);
            if self.is_idle() {
                return;
            }
        }
    }

    /// Ends the leftovers of ended sandboxes. The runtime starts every process in a group of its own, so children in
    /// this process's group are not its business.
    fn end_leftovers(&mut self, table: &ProcessTable, children: &Children) {
        let group = getpgrp().as_raw();
        let adopted =
            table.children(getpid().as_raw()).filter(|child| child.group != group && !children.is_known(child.id));
        let (mut zombies, mut unknown) = (HashSet::new(), HashMap::new());
        for child in adopted {
            if child.is_zombie {
                // tokio reaps main processes at once, so a zombie that two passes see is an adopted one.
                if !self.zombies.contains(&child.id) || waitpid(pid(child.id), Some(WaitPidFlag::WNOHANG)).is_err() {
                    zombies.insert(child.id);
                }
                continue;
            }
            let starts = self.unknown.get(&child.id).copied().unwrap_or_else(|| children.starts());
            if !children.have_ended(starts) {
                unknown.insert(child.id, starts);
            } else if !self.belongs_to_running(child.id) {
                end(&table.tree(child.id.pid));
                zombies.insert(child.id);
            }
        }
        (self.zombies, self.unknown) = (zombies, unknown);
    }

    fn belongs_to_running(&self, process: Id) -> bool {
        self.descendants.values().any(|known| known.contains(&process))
    }
}

/// Ends a sandbox that exceeds its memory allowance.
fn enforce(sandbox: &MonitoredSandbox, tree: &[Entry]) {
    // Version 1 of control groups lets the kernel kill one process alone; a sandbox must not go on without it.
    if let Some(cause) = sandbox.limits.oom_cause() {
        let _ = sandbox.cause.set(cause);
        return end(tree);
    }
    let Some(allowance @ MemoryAllowance { function, headroom }) = sandbox.limits.monitored_allowance() else { return };
    let max = allowance.bytes();
    let sum = |of: fn(&Entry) -> u64| tree.iter().map(of).fold(0, u64::saturating_add);
    // An upper bound that is cheap to read. Only sandboxes beyond it are measured exactly.
    if sum(Entry::resident_bytes) <= max {
        return;
    }
    let held = sum(Entry::held_bytes);
    if held <= max {
        return;
    }
    let (held, processes) = (ByteSize::b(held), tree.len());
    let cause = format!(
        "ended because it held {held} of memory in {processes} processes: its function has {function}, and {headroom} are \
         allowed beyond (process.resident_headroom)"
    );
    // Fails if it has a reason already; the first one counts.
    let _ = sandbox.cause.set(cause);
    end(tree);
}

/// Kills the processes of a snapshot, except those whose number belongs to another process by now.
fn end(tree: &[Entry]) {
    for id in tree.iter().map(|entry| entry.id).filter(|id| id.is_current()) {
        let _ = kill(pid(id), Signal::SIGKILL);
    }
}

fn pid(id: Id) -> Pid {
    Pid::from_raw(id.pid)
}
