//! The health of peers: nodes that miss heartbeats are suspect, then dead; a data plane that stays away loses its grants.

mod common_outage;

use std::collections::BTreeSet;

use policy::placement::NodeKey;
use service::micros;

use self::common_outage::{Unresponsive, unresponsive_together};
use super::{
    super::{
        Origin,
        cluster::{Cluster, DataPlanes, Node, NodeState, Tables, Worker, Workers},
        context::Context,
        effects::Effects,
        recovery::Recovery,
    },
    node::NodeHandler,
};
use crate::store::Command;

/// Lateness of a check, in microseconds, from which the whole process must have been stopped: nothing was received
/// meanwhile. A third of the shortest time-out, so that no conclusion is drawn before.
const CLOCK_JUMP_US: u64 = 500_000;

/// Marks unresponsive peers.
pub(in crate::state) struct HealthHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) workers: &'a mut Workers,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recovery: &'a mut Recovery,
    pub(super) unresponsive_together: &'a mut BTreeSet<NodeKey>,
    pub(super) effects: &'a mut Effects,
}

impl HealthHandler<'_> {
    fn nodes(&mut self) -> NodeHandler<'_> {
        NodeHandler {
            context: self.context,
            tables: self.tables,
            workers: self.workers,
            data_planes: self.data_planes,
            recovery: self.recovery,
            unresponsive_together: self.unresponsive_together,
            effects: self.effects,
        }
    }

    pub(in crate::state) fn check(&mut self) {
        let health = &self.context.settings.health;
        let (suspect_after, dead_after) = (micros(health.suspect_after), micros(health.dead_after));
        self.note_common_outage(suspect_after);
        self.suspect_unresponsive_workers(suspect_after, dead_after);
        self.suspect_disconnected_nodes(suspect_after);
        self.mark_dead_nodes(dead_after);
        self.end_grace();
    }

    fn elapsed_us(&self, since_us: u64) -> u64 {
        self.context.now.us.saturating_sub(since_us)
    }

    fn suspect_unresponsive_workers(&mut self, suspect_after: u64, dead_after: u64) {
        let unresponsive: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| self.elapsed_us(worker.last_heartbeat_us) >= suspect_after)
            .filter(|(_, worker)| !worker.nodes.iter().any(|key| self.unresponsive_together.contains(key)))
            .map(|(session, worker)| (session, worker.last_heartbeat_us, worker.nodes.clone()))
            .collect();
        for (session, last_heartbeat_us, nodes) in unresponsive {
            for key in nodes {
                self.tables.nodes.set_last_heartbeat(key, last_heartbeat_us);
                self.nodes().mark_suspect(key);
            }
            if self.elapsed_us(last_heartbeat_us) >= dead_after {
                self.effects.close(session, "its heartbeats are missing for too long".to_owned());
                self.nodes().worker_left(session);
            }
        }
    }

    /// Marks nodes as suspect whose connection ended during a common outage that is over.
    fn suspect_disconnected_nodes(&mut self, suspect_after: u64) {
        let left = self.tables.nodes.iter().filter(|(key, node)| {
            let is_away = node.session().is_none() && node.state() == NodeState::Ready;
            is_away
                && self.elapsed_us(node.last_heartbeat_us) >= suspect_after
                && !self.unresponsive_together.contains(key)
        });
        for key in left.map(|(key, _)| key).collect::<Vec<_>>() {
            self.nodes().mark_suspect(key);
        }
    }

    fn mark_dead_nodes(&mut self, dead_after: u64) {
        let dead: Vec<_> = self
            .tables
            .nodes
            .iter()
            .filter(|(_, node)| node.state() == NodeState::Suspect && node.session().is_none())
            .filter(|(_, node)| self.elapsed_us(node.last_heartbeat_us) >= dead_after)
            .filter(|(key, _)| !self.unresponsive_together.contains(key))
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            self.nodes().mark_dead(key);
        }
    }

    /// Finds nodes that became unresponsive together, so that the cause is likely to be here. They are neither suspect
    /// nor dead for as long as it lasts.
    fn note_common_outage(&mut self, suspect_after: u64) {
        let common = self.common_outage(suspect_after);
        let before = std::mem::replace(self.unresponsive_together, common);
        self.context.metrics.self_suspicion.set(i64::from(!self.unresponsive_together.is_empty()));
        if before.is_empty() && !self.unresponsive_together.is_empty() {
            tracing::warn!("so many nodes are unresponsive that the cause may be here; they are not replaced");
        }
        // After a common outage all of its nodes get the whole time-out again: they do not come back in one moment.
        let over: BTreeSet<_> = before.difference(self.unresponsive_together).copied().collect();
        if !over.is_empty() {
            self.restart_heartbeat_timeout(&over);
        }
    }

    /// The nodes that are unresponsive together. Dead nodes, and those that have not connected since this control plane
    /// began, may not exist any more, and those that shut down do so on purpose: none of these is evidence.
    fn common_outage(&self, suspect_after: u64) -> BTreeSet<NodeKey> {
        let is_evidence =
            |node: &Node| node.state() != NodeState::Dead && !node.worker().is_empty() && !node.is_leaving();
        let evidence = || self.tables.nodes.iter().filter(|(_, node)| is_evidence(node));
        let contacts = evidence().map(|(node, known)| (node, self.workers.last_heartbeat_us(known), known.worker()));
        // Even nodes with one cause miss different heartbeats first: half of the time-out is enough to count with the
        // others.
        let quiet = contacts.filter(|(_, since_us, _)| self.elapsed_us(*since_us) >= suspect_after / 2);
        let quiet: Vec<_> = quiet.map(|(node, since_us, worker)| Unresponsive { since_us, node, worker }).collect();
        if quiet.is_empty() {
            return BTreeSet::new();
        }
        let has_begun = |node: &NodeKey| {
            let contact_us = self.workers.last_heartbeat_us(self.tables.nodes.get(*node));
            self.unresponsive_together.contains(node) || self.elapsed_us(contact_us) >= suspect_after
        };
        let groups = unresponsive_together(quiet, evidence().count(), suspect_after);
        groups.into_iter().filter(|group| group.iter().any(has_begun)).flatten().collect()
    }

    /// Restarts the time-out of these nodes.
    fn restart_heartbeat_timeout(&mut self, over: &BTreeSet<NodeKey>) {
        let now_us = self.context.now.us;
        let is_forgiven = |worker: &Worker| worker.nodes.iter().any(|key| over.contains(key));
        for worker in self.workers.iter_mut().filter(|worker| is_forgiven(worker)) {
            worker.last_heartbeat_us = now_us;
        }
        for key in over {
            // It may have been removed since.
            if self.tables.nodes.contains(*key) {
                self.tables.nodes.set_last_heartbeat(*key, now_us);
            }
        }
    }

    /// Removes data planes that stay away, once that is durable. Until then one may come back with its grants; after
    /// that it is a new one, for this control plane and the next.
    fn end_grace(&mut self) {
        let grace = micros(self.context.settings.health.data_plane_grace);
        let now_us = self.context.now.us;
        let is_gone = |left_us: u64| now_us.saturating_sub(left_us) >= grace;
        let known = self.data_planes.iter_mut();
        for known in known.filter(|known| known.session.is_none() && !known.leaving && is_gone(known.left_us)) {
            known.leaving = true;
            self.effects.append(Command::RemoveDataPlane { id: known.id.clone() }, Origin::State);
        }
    }
}

impl Cluster {
    /// Time for which this process was stopped before `now_us`, in microseconds, if it was.
    pub(in crate::state) fn clock_jump_us(&self, now_us: u64) -> Option<u64> {
        let late_us = now_us.saturating_sub(self.tables.timers.health_us());
        (self.watches_health() && late_us >= CLOCK_JUMP_US).then_some(late_us)
    }

    /// Returns true if there is a peer whose heartbeats or connection are monitored.
    pub(in crate::state) fn watches_health(&self) -> bool {
        self.workers.len() > 0
            || self.data_planes.iter().next().is_some()
            || self.tables.nodes.iter().any(|(_, node)| node.state() == NodeState::Suspect)
    }
}

impl Workers {
    /// Time of a node's last heartbeat, in microseconds.
    fn last_heartbeat_us(&self, node: &Node) -> u64 {
        let worker = node.session().and_then(|session| self.get(session));
        worker.map_or(node.last_heartbeat_us, |worker| worker.last_heartbeat_us)
    }
}
