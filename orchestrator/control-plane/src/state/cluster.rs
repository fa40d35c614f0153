//! The tables of the objects that the control plane believes to exist: functions, sandboxes, nodes, workers, data
//! planes, and the times at which something is due.
//!
//! A sandbox is counted in several tables: by its function, its node, the totals, and the timers. Its state and its
//! grant are private to this module, so that only the methods here change them, each in all of these tables at once.

mod activity;
#[cfg(test)]
mod consistency;
mod data_plane;
mod function;
mod node;
mod nodes;
mod offer;
mod sandbox;
mod sandboxes;
mod timers;
mod totals;
mod unschedulable;
mod worker;
mod worker_load;

use std::{
    collections::BTreeSet,
    fmt::Display,
    panic::Location,
    sync::{Mutex, PoisonError},
};

use model::{FunctionId, NodeSpec, SandboxId};
use policy::placement;

use super::Settings;
use crate::{
    now::Now,
    registry::{RegisteredNode, Registry},
};

pub(crate) use self::sandbox::{CreationOutcome, Timing};
pub(super) use self::{
    activity::Recent,
    data_plane::{DataPlane, DataPlaneKey, DataPlanes, FunctionLoad, GrantCap},
    function::{CreationBackoff, Function, Functions},
    node::{Node, NodeState},
    nodes::Nodes,
    offer::Offer,
    sandbox::{Found, Sandbox, SandboxState},
    sandboxes::Sandboxes,
    timers::{SandboxTimer, Timers},
    totals::Totals,
    unschedulable::Unschedulable,
    worker::{Worker, Workers},
};

/// The tables.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) functions: Functions,
    pub(super) nodes: Nodes,
    /// Per-node data of the placement policies.
    pub(super) placement: placement::Placement,
    pub(super) workers: Workers,
    pub(super) data_planes: DataPlanes,
    pub(super) sandboxes: Sandboxes,
    pub(super) timers: Timers,
    /// Functions with demand that no node has room for.
    pub(super) unschedulable: Unschedulable,
    /// Functions that were active lately.
    pub(super) recent: Recent,
}

impl Cluster {
    /// Adds the durable objects. Peers report the others.
    pub(super) fn load(&mut self, registry: &Registry, settings: &Settings) {
        for (name, RegisteredNode { capacity, drained }) in registry.nodes() {
            let key = self.nodes.put(&NodeSpec { name: name.clone(), capacity: *capacity });
            self.nodes.set_drained(key, *drained);
        }
        for id in registry.data_planes() {
            self.data_planes.put(id, 0);
        }
        for registered in registry.functions() {
            self.functions.insert(Function::registered(registered.clone(), settings.autoscale_for(&registered.spec)));
        }
    }

    /// Moves all measured times and timers by the `late_us` microseconds for which this process was stopped.
    pub(super) fn postpone(&mut self, now: Now, late_us: u64) {
        self.timers.restart_health(now);
        let moved = |us: u64| us.saturating_add(late_us).min(now.us);
        self.workers.iter_mut().for_each(|worker| worker.last_heartbeat_us = moved(worker.last_heartbeat_us));
        for node in self.nodes.iter_mut() {
            node.last_heartbeat_us = moved(node.last_heartbeat_us);
            node.ready_us = node.ready_us.map(moved);
        }
        self.data_planes.iter_mut().for_each(|known| known.left_us = moved(known.left_us));
        for (_, function) in self.functions.iter_mut() {
            for (_, load) in &mut function.loads {
                load.cap.due_us = load.cap.due_us.map(|due| due.saturating_add(late_us));
            }
        }
        self.timers.postpone_sandboxes(late_us);
        self.sandboxes.iter_mut().for_each(|sandbox| sandbox.note_standstill(late_us));
    }

    /// Adds a sandbox that is to be created, if its node has room for it; `false` otherwise.
    pub(super) fn add_commanded(&mut self, id: SandboxId, sandbox: Sandbox) -> bool {
        let has_room = self.nodes.reserve(sandbox.node, id, sandbox.resources);
        if has_room {
            self.insert(id, sandbox);
        }
        has_room
    }

    /// Adds a sandbox that exists already, whether its node has room for it or not.
    pub(super) fn add_found(&mut self, id: SandboxId, sandbox: Sandbox) {
        self.nodes.adopt(sandbox.node, id, sandbox.resources);
        self.insert(id, sandbox);
    }

    fn insert(&mut self, id: SandboxId, sandbox: Sandbox) {
        if sandbox.state == SandboxState::Starting {
            self.timers.watch(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.nodes.get_mut(sandbox.node).starting += 1;
        }
        if let Some(function) = self.functions.known_mut(sandbox.function) {
            function.add_sandbox(id, sandbox.state);
            function.note_free(id, sandbox.is_free());
        }
        self.sandboxes.insert(id, sandbox);
    }

    /// Changes the state of a sandbox.
    pub(super) fn set_sandbox_state(&mut self, id: SandboxId, state: SandboxState) {
        let Some((before, sandbox)) = self.sandboxes.set_state(id, state) else { return };
        if before == SandboxState::Starting {
            self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.nodes.get_mut(sandbox.node).starting -= 1;
        }
        if let Some(function) = self.functions.known_mut(sandbox.function) {
            function.count(before, state);
            function.note_free(id, sandbox.is_free());
        }
    }

    /// Removes a sandbox without a grant, and releases its resources. A deregistered function is removed with its last
    /// sandbox.
    pub(super) fn remove_sandbox(&mut self, id: SandboxId) {
        let Some(sandbox) = self.sandboxes.remove(id) else { return };
        debug_assert!(sandbox.grant().is_none(), "its grant is ended before");
        if sandbox.state() == SandboxState::Starting {
            self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
            self.nodes.get_mut(sandbox.node).starting -= 1;
        }
        self.nodes.release(sandbox.node, id, sandbox.resources);
        if let Some(function) = self.functions.known_mut(sandbox.function) {
            function.remove_sandbox(id, sandbox.state());
            if function.removed && function.sandboxes.is_empty() {
                self.remove_function(sandbox.function);
            }
        }
    }

    /// Removes a function without sandboxes.
    pub(super) fn remove_function(&mut self, id: FunctionId) {
        self.decide_again_at(id, None);
        self.functions.remove(id);
    }

    /// Gives a creation until `due_us`; `queued` if it has not begun, since it waits for others of its worker.
    pub(super) fn set_creation_due(&mut self, id: SandboxId, due_us: u64, queued: bool) {
        let Some(sandbox) = self.sandboxes.known_mut(id) else { return };
        debug_assert_eq!(sandbox.state(), SandboxState::Starting, "only a creation has a deadline");
        self.timers.forget(sandbox.creation_due_us, id, SandboxTimer::Creation);
        sandbox.creation_due_us = due_us;
        sandbox.queued_until_us = queued.then_some(due_us);
        self.timers.watch(due_us, id, SandboxTimer::Creation);
    }

    /// Decides on a function at `due_us` at the latest.
    pub(super) fn decide_by(&mut self, id: FunctionId, due_us: u64) {
        let due = self.functions.get(id).and_then(|function| function.due_us);
        self.decide_again_at(id, due.into_iter().chain([due_us]).min());
    }

    /// Decides on a function at `due_us`, and not before unless something happens to it.
    pub(super) fn decide_again_at(&mut self, id: FunctionId, due_us: Option<u64>) {
        if let Some(function) = self.functions.known_mut(id) {
            let old = std::mem::replace(&mut function.due_us, due_us);
            if old != due_us {
                self.timers.reschedule(id, old, due_us);
            }
        }
    }

    /// Takes the first function whose next decision is due.
    pub(super) fn pop_due_function(&mut self, now_us: u64) -> Option<FunctionId> {
        let id = self.timers.pop_due_function(now_us)?;
        if let Some(function) = self.functions.known_mut(id) {
            function.due_us = None;
        }
        Some(id)
    }
}

/// An entry of a table whose key comes from another table. That it is missing is a fault of this program: a debug build
/// stops there, a release build writes to the log where, once for each place in the code, and goes on without.
#[track_caller]
fn expect_known<T>(entry: Option<T>, table: &'static str, id: impl Display) -> Option<T> {
    if entry.is_none() {
        report_missing(table, &id.to_string(), Location::caller());
    }
    entry
}

#[cold]
fn report_missing(table: &'static str, id: &str, at: &'static Location<'static>) {
    static REPORTED: Mutex<BTreeSet<(&str, u32)>> = Mutex::new(BTreeSet::new());
    debug_assert!(false, "{table} {id} does not exist, and another table names it ({at})");
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    if reported.insert((at.file(), at.line())) {
        tracing::error!(table, id, %at, "the tables disagree: one of them names an entry that another does not have");
    }
}
