//! The objects that the control plane believes to exist: functions, sandboxes, nodes, workers and data planes.
//!
//! A sandbox is counted in several [`Tables`]: by its function, its node, the totals, and the timers. Its state and its
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
mod tables;
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

use model::NodeSpec;

use super::Settings;
use crate::{
    now::Now,
    registry::{RegisteredNode, Registry},
};

pub(crate) use record::CreationOutcome;

pub(crate) use self::sandbox::Timing;
pub(super) use self::{
    activity::Recent,
    data_plane::{DataPlane, DataPlaneKey, DataPlanes, FunctionLoad, GrantCap},
    function::{CreationBackoff, Function, Functions},
    node::{Node, NodeState},
    nodes::Nodes,
    offer::Offer,
    sandbox::{Found, Sandbox, SandboxState},
    sandboxes::Sandboxes,
    tables::Tables,
    timers::{SandboxTimer, Timers},
    totals::Totals,
    unschedulable::Unschedulable,
    worker::{Worker, Workers},
};

/// The objects of a cluster.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) tables: Tables,
    pub(super) workers: Workers,
    pub(super) data_planes: DataPlanes,
    /// Functions with demand that no node has room for.
    pub(super) unschedulable: Unschedulable,
    /// Functions that were active lately.
    pub(super) recent: Recent,
}

impl Cluster {
    /// Adds the durable objects. Peers report the others.
    pub(super) fn load(&mut self, registry: &Registry, settings: &Settings) {
        for (name, RegisteredNode { capacity, drained }) in registry.nodes() {
            let key = self.tables.nodes.put(&NodeSpec { name: name.clone(), capacity: *capacity });
            self.tables.nodes.set_drained(key, *drained);
        }
        for id in registry.data_planes() {
            self.data_planes.put(id, 0);
        }
        for registered in registry.functions() {
            self.tables
                .functions
                .insert(Function::registered(registered.clone(), settings.autoscale_for(&registered.spec)));
        }
    }

    /// Moves all measured times and timers by the `late_us` microseconds for which this process was stopped.
    pub(super) fn postpone(&mut self, now: Now, late_us: u64) {
        self.tables.timers.restart_health(now);
        let moved = |us: u64| us.saturating_add(late_us).min(now.us);
        self.workers.iter_mut().for_each(|worker| worker.last_heartbeat_us = moved(worker.last_heartbeat_us));
        for node in self.tables.nodes.iter_mut() {
            node.last_heartbeat_us = moved(node.last_heartbeat_us);
            node.ready_us = node.ready_us.map(moved);
        }
        self.data_planes.iter_mut().for_each(|known| known.left_us = moved(known.left_us));
        for (_, function) in self.tables.functions.iter_mut() {
            for (_, load) in &mut function.loads {
                load.cap.due_us = load.cap.due_us.map(|due| due.saturating_add(late_us));
            }
        }
        self.tables.timers.postpone_sandboxes(late_us);
        self.tables.sandboxes.iter_mut().for_each(|sandbox| sandbox.note_standstill(late_us));
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
