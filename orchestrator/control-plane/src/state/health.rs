//! Who is alive: suspicion, death, and return of workers; the grace of vanished data planes.

use std::collections::BTreeSet;

use model::{EndpointState, SandboxId};
use policy::placement::NodeKey;

use super::{
    Cluster, Effect, Now, Origin, State,
    data_plane::DataPlaneKey,
    node::{Node, NodeState},
    sandbox::{Sandbox, SandboxState},
    silence::{Silent, silent_together},
};
use crate::{clock::micros, store::Command};

/// A look that comes this much too late, in microseconds, was held up with the whole process: nobody was heard of
/// meanwhile, whoever spoke. A third of the shortest silence that means something.
const CLOCK_JUMP_US: u64 = 500_000;

impl Cluster {
    /// Whether anybody is there whose silence would mean something.
    pub(super) fn watches_health(&self) -> bool {
        self.workers.len() > 0
            || self.data_planes.iter().next().is_some()
            || self.nodes.iter().any(|(_, node)| node.state == NodeState::Suspect)
    }

    /// When a node was last heard of, in microseconds.
    fn heard_us(&self, node: &Node) -> u64 {
        let worker = node.session.and_then(|session| self.workers.get(session));
        worker.map_or(node.silent_since_us, |worker| worker.last_heartbeat_us)
    }

    pub(super) fn sandboxes_on(&self, key: NodeKey) -> Vec<SandboxId> {
        self.nodes.get(key).sandboxes.iter().copied().collect()
    }
}

impl State {
    /// Before anything is concluded from the time: if this process stood still, all that was measured until now is moved
    /// by the gap.
    pub(super) fn note_clock_jump(&mut self, now: Now) {
        let late_us = now.us.saturating_sub(self.timers.health_us());
        if !self.cluster.watches_health() || late_us < CLOCK_JUMP_US {
            return;
        }
        self.timers.restart_health(now);
        tracing::warn!(late_us, "this process stood still: whoever was silent meanwhile is given the time again");
        let moved = |us: u64| us.saturating_add(late_us).min(now.us);
        self.cluster.workers.iter_mut().for_each(|worker| worker.last_heartbeat_us = moved(worker.last_heartbeat_us));
        for node in self.cluster.nodes.iter_mut() {
            node.silent_since_us = moved(node.silent_since_us);
            if node.ready_us > 0 {
                node.ready_us = moved(node.ready_us);
            }
        }
        self.cluster.data_planes.iter_mut().for_each(|known| known.left_us = moved(known.left_us));
        for (_, function) in self.cluster.functions.iter_mut() {
            for (_, load) in &mut function.loads {
                load.cap.due_us = load.cap.due_us.map(|due| due.saturating_add(late_us));
            }
        }
        self.timers.postpone_sandboxes(late_us);
        self.cluster.sandboxes.values_mut().for_each(|sandbox| sandbox.note_standstill(late_us));
        self.replies.iter_mut().for_each(|reply| reply.deadline_us = reply.deadline_us.saturating_add(late_us));
        self.recovery.postpone(late_us);
    }

    pub(super) fn check_health(&mut self, now: Now) {
        let suspect_after = micros(self.settings.health.suspect_after);
        let dead_after = micros(self.settings.health.dead_after);
        self.note_common_silence(now, suspect_after);
        let silence = |since: u64| now.us.saturating_sub(since);
        let silent: Vec<_> = self
            .cluster
            .workers
            .iter()
            .filter(|(_, worker)| silence(worker.last_heartbeat_us) >= suspect_after)
            .filter(|(_, worker)| !worker.nodes.iter().any(|key| self.silent_together.contains(key)))
            .map(|(session, worker)| (session, worker.last_heartbeat_us, worker.nodes.clone()))
            .collect();
        for (session, last_heartbeat_us, nodes) in silent {
            for key in nodes {
                self.cluster.nodes.note_silence(key, last_heartbeat_us);
                self.mark_suspect(now, key);
            }
            if silence(last_heartbeat_us) >= dead_after {
                self.effect(Effect::Close { session, reason: "silent for too long".to_owned() });
                self.worker_left(now, session);
            }
        }
        // Those whose connection ended while others were silent together.
        let left = self.cluster.nodes.iter().filter(|(key, node)| {
            let is_away = node.session.is_none() && node.state == NodeState::Ready;
            is_away && silence(node.silent_since_us) >= suspect_after && !self.silent_together.contains(key)
        });
        for key in left.map(|(key, _)| key).collect::<Vec<_>>() {
            self.mark_suspect(now, key);
        }
        self.mark_dead_nodes(now, dead_after);
        self.end_grace(now);
    }

    /// Takes note of which nodes are silent together, so that the cause is likely to be here. Nothing is concluded from
    /// their silence for as long as it lasts; what happens to others goes its way.
    fn note_common_silence(&mut self, now: Now, suspect_after: u64) {
        let common = self.common_silence(now, suspect_after);
        let before = std::mem::replace(&mut self.silent_together, common);
        self.metrics.self_suspicion.set(i64::from(!self.silent_together.is_empty()));
        if before.is_empty() && !self.silent_together.is_empty() {
            tracing::warn!("so many nodes are silent that the cause may be here; they are not replaced");
        }
        // Who was silent with the others is given the time again, too: they do not all come back in one moment.
        let over: BTreeSet<_> = before.difference(&self.silent_together).copied().collect();
        if !over.is_empty() {
            self.forgive_silence(now, &over);
        }
    }

    /// The nodes that are silent together. Those that were given up, or never heard of since this control plane began,
    /// may be no more, and those whose worker said that it ends do what it said: they are no evidence.
    fn common_silence(&self, now: Now, suspect_after: u64) -> BTreeSet<NodeKey> {
        let is_evidence = |node: &Node| node.state != NodeState::Dead && !node.worker.is_empty() && !node.leaving;
        let evidence = || self.cluster.nodes.iter().filter(|(_, node)| is_evidence(node));
        let silent_us = |since_us: u64| now.us.saturating_sub(since_us);
        let heard = evidence().map(|(node, known)| (node, self.cluster.heard_us(known), &*known.worker));
        // Nobody falls silent in the same moment as others: who has missed half of it counts with who missed all.
        let quiet = heard.filter(|(_, since_us, _)| silent_us(*since_us) >= suspect_after / 2);
        let quiet: Vec<_> = quiet.map(|(node, since_us, worker)| Silent { since_us, node, worker }).collect();
        if quiet.is_empty() {
            return BTreeSet::new();
        }
        let has_begun = |node: &NodeKey| {
            self.silent_together.contains(node)
                || silent_us(self.cluster.heard_us(self.cluster.nodes.get(*node))) >= suspect_after
        };
        let groups = silent_together(quiet, evidence().count(), suspect_after);
        groups.into_iter().filter(|group| group.iter().any(has_begun)).flatten().collect()
    }

    /// Begins to count the silence of these nodes anew.
    fn forgive_silence(&mut self, now: Now, over: &BTreeSet<NodeKey>) {
        let forgiven = |worker: &super::worker::Worker| worker.nodes.iter().any(|key| over.contains(key));
        for worker in self.cluster.workers.iter_mut().filter(|worker| forgiven(worker)) {
            worker.last_heartbeat_us = now.us;
        }
        for key in over {
            if self.cluster.nodes.contains(*key) {
                self.cluster.nodes.note_silence(*key, now.us);
            }
        }
    }

    /// Nodes without a worker for too long are dead.
    fn mark_dead_nodes(&mut self, now: Now, dead_after: u64) {
        let dead: Vec<_> = self
            .cluster
            .nodes
            .iter()
            .filter(|(_, node)| node.state == NodeState::Suspect && node.session.is_none())
            .filter(|(_, node)| now.us.saturating_sub(node.silent_since_us) >= dead_after)
            .filter(|(key, _)| !self.silent_together.contains(key))
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            tracing::warn!(node = %self.cluster.nodes.get(key).name, "dead: its sandboxes are replaced");
            self.cluster.nodes.get_mut(key).state = NodeState::Dead;
            self.recovery.nodes_reported(&[key]);
            for id in self.cluster.sandboxes_on(key) {
                let Some(sandbox) = self.cluster.sandboxes.get(&id) else { continue };
                let function = sandbox.function;
                let may_be_held = sandbox.may_be_held();
                let node = self.cluster.nodes.get_mut(key);
                let kept = if may_be_held { &mut node.given_up } else { &mut node.left_behind };
                kept.insert(id);
                self.forget_sandbox(id, "failed");
                self.touch(function, now.us);
            }
            // Others of its worker may be full no longer.
            self.touch_room();
            self.settle_unclaimed(now);
        }
    }

    /// No new work for a node; its waiting invocations go elsewhere.
    pub(super) fn mark_suspect(&mut self, now: Now, key: NodeKey) {
        let node = self.cluster.nodes.get_mut(key);
        if node.state != NodeState::Ready {
            return;
        }
        node.state = NodeState::Suspect;
        tracing::info!(node = %node.name, "suspect: silent or disconnected; no new work");
        self.cluster.nodes.refresh_open(key);
        for id in self.cluster.sandboxes_on(key) {
            let Some(sandbox) = self.cluster.sandboxes.get(&id) else { continue };
            let function = sandbox.function;
            match sandbox.state {
                SandboxState::Ready => {
                    self.set_sandbox_state(id, SandboxState::Suspended);
                    self.send_endpoint(id, EndpointState::Suspended);
                }
                // It will not be ready soon, if at all: its demand is served elsewhere.
                SandboxState::Starting => self.delete_sandbox(id),
                SandboxState::Suspended
                | SandboxState::Unclaimed
                | SandboxState::Draining
                | SandboxState::Terminating => {}
            }
            self.touch(function, now.us);
        }
    }

    /// A suspect node sent a heartbeat.
    pub(super) fn mark_ready(&mut self, now: Now, key: NodeKey) {
        let node = self.cluster.nodes.get_mut(key);
        node.state = NodeState::Ready;
        tracing::info!(node = %node.name, "back");
        self.cluster.nodes.refresh_open(key);
        for id in self.cluster.sandboxes_on(key) {
            self.resume_sandbox(now, id);
        }
    }

    /// A sandbox whose node was suspect is in service again, perhaps in addition to its successor.
    pub(super) fn resume_sandbox(&mut self, now: Now, id: SandboxId) {
        let suspended = |sandbox: &&Sandbox| sandbox.state == SandboxState::Suspended;
        let Some(function) = self.cluster.sandboxes.get(&id).filter(suspended).map(|sandbox| sandbox.function) else {
            return;
        };
        self.set_sandbox_state(id, SandboxState::Ready);
        self.send_endpoint(id, EndpointState::Active);
        self.touch(function, now.us);
    }

    /// A data plane that stays away loses what it holds, once that is durable: until then it may come back, and after
    /// that it is a new one, here and for the next control plane.
    fn end_grace(&mut self, now: Now) {
        let grace = micros(self.settings.health.data_plane_grace);
        let is_gone = |left_us: u64| now.us.saturating_sub(left_us) >= grace;
        let known = self.cluster.data_planes.iter_mut();
        let gone: Vec<_> = known
            .filter(|known| known.session.is_none() && !known.leaving && is_gone(known.left_us))
            .map(|known| {
                known.leaving = true;
                known.id.clone()
            })
            .collect();
        for id in gone {
            self.effect(Effect::Append { command: Command::RemoveDataPlane { id }, origin: Origin::State });
        }
    }

    /// Ends what a data plane held, never to be granted again, and forgets it.
    pub(super) fn remove_data_plane(&mut self, now: Now, key: DataPlaneKey) {
        if let Some(session) = self.cluster.data_planes.get(key).and_then(|known| known.session) {
            // It came back by another way than it left: it has to say anew what it holds.
            self.effect(Effect::Close { session, reason: "it was given up meanwhile".to_owned() });
            self.data_plane_left(now, session);
        }
        let granted_to_it = self.cluster.sandboxes.iter().filter(|(_, sandbox)| sandbox.is_granted_to(key));
        for id in granted_to_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.delete_sandbox(id);
            self.end_grant(id);
        }
        // It may hold what nobody else claims, and cannot be asked.
        self.recovery.holder_lost(key);
        if let Some(known) = self.cluster.data_planes.get(key) {
            tracing::warn!(data_plane = %known.id, "gone: the sandboxes it held are ended");
        }
        self.recovery.data_plane_reported(key);
        self.forget_loads(now, key);
        self.cluster.data_planes.remove(key);
        self.settle_unclaimed(now);
    }

    /// Forgets the demand that a data plane reported.
    fn forget_loads(&mut self, now: Now, key: DataPlaneKey) {
        let mut touched = Vec::new();
        for (id, function) in self.cluster.functions.iter_mut() {
            let before = function.loads.len();
            function.loads.retain(|(load, _)| *load != key);
            if function.loads.len() < before {
                touched.push(id);
            }
        }
        self.touch_all(touched, now.us);
    }
}
