//! Who is alive: suspicion, death, and return of workers; the grace of vanished data planes.

use std::collections::BTreeSet;

use model::{EndpointState, SandboxId};
use policy::placement::NodeKey;

use super::{
    Effect, Now, Origin, State,
    data_plane::DataPlaneKey,
    grant::micros,
    node::{Node, NodeState},
    sandbox::Standing,
};
use crate::store::Command;

/// When more than this share of the nodes falls silent together, in percent, that says more about the control plane, or
/// its network, than about them.
const SELF_SUSPICION_PERCENT: usize = 30;
/// Of so many workers at least: one that falls silent does not do so together with anybody.
const TOGETHER: usize = 2;
/// A look that comes this much too late, in microseconds, was held up with the whole process: nobody was heard of
/// meanwhile, whoever spoke. A third of the shortest silence that means something.
const CLOCK_JUMP_US: u64 = 500_000;

impl State {
    /// Whether anybody is there whose silence would mean something.
    pub(super) fn watches_health(&self) -> bool {
        self.workers.len() > 0
            || self.data_planes.iter().next().is_some()
            || self.nodes.iter().any(|(_, node)| node.state == NodeState::Suspect)
    }

    /// Before anything is concluded from the time: if this process stood still, all that was measured until now is moved
    /// by the gap.
    pub(super) fn note_clock_jump(&mut self, now: Now) {
        let late_us = now.us.saturating_sub(self.timers.health_us());
        if !self.watches_health() || late_us < CLOCK_JUMP_US {
            return;
        }
        self.timers.restart_health(now);
        tracing::warn!(late_us, "this process stood still: whoever was silent meanwhile is given the time again");
        let moved = |us: u64| us.saturating_add(late_us).min(now.us);
        self.workers.iter_mut().for_each(|worker| worker.last_beat_us = moved(worker.last_beat_us));
        self.nodes.iter_mut().for_each(|node| node.silent_since_us = moved(node.silent_since_us));
        self.data_planes.iter_mut().for_each(|known| known.left_us = moved(known.left_us));
        for (_, function) in self.functions.iter_mut() {
            for (_, level) in &mut function.levels {
                level.limit.due_us = level.limit.due_us.map(|due| due.saturating_add(late_us));
            }
        }
        self.timers.postpone_sandboxes(late_us);
        self.recovery.postpone(late_us);
    }

    pub(super) fn check_health(&mut self, now: Now) {
        let suspect_after = micros(self.settings.health.suspect_after);
        let dead_after = micros(self.settings.health.dead_after);
        let is_common = self.is_silence_common(now, suspect_after);
        let did_before = std::mem::replace(&mut self.suspects_itself, is_common);
        self.metrics.self_suspicion.set(i64::from(self.suspects_itself));
        match (did_before, self.suspects_itself) {
            (false, true) => {
                tracing::warn!("so many nodes are silent that the cause may be here; nothing is replaced");
            }
            // Who was silent with the others is given the time again, too: they do not all come back in one moment.
            (true, false) => self.forgive_silence(now, suspect_after),
            _ => {}
        }
        if self.suspects_itself {
            return;
        }
        let silence = |since: u64| now.us.saturating_sub(since);
        let silent: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| silence(worker.last_beat_us) >= suspect_after)
            .map(|(session, worker)| (session, worker.last_beat_us, worker.nodes.clone()))
            .collect();
        for (session, last_beat_us, nodes) in silent {
            for key in nodes {
                self.nodes.note_silence(key, last_beat_us);
                self.suspect_node(now, key);
            }
            if silence(last_beat_us) >= dead_after {
                self.effect(Effect::Close { session, reason: "silent for too long".to_owned() });
                self.worker_left(now, session);
            }
        }
        // Those whose connection ended while so many were silent.
        let left = self.nodes.iter().filter(|(_, node)| node.session.is_none() && node.state == NodeState::Ready);
        for key in left.map(|(key, _)| key).collect::<Vec<_>>() {
            self.suspect_node(now, key);
        }
        self.bury_nodes(now, dead_after);
        self.end_grace(now);
    }

    /// When a node was last heard of, in microseconds.
    fn heard_us(&self, node: &Node) -> u64 {
        let worker = node.session.and_then(|session| self.workers.get(session));
        worker.map_or(node.silent_since_us, |worker| worker.last_beat_us)
    }

    /// Whether so many nodes are silent together that the cause is likely to be here. Those that were given up, or never
    /// heard of since this control plane began, may be no more: they say nothing about it.
    fn is_silence_common(&self, now: Now, suspect_after: u64) -> bool {
        // Nobody falls silent in the same moment as others: who has missed half of it counts with who missed all.
        let together_us = suspect_after / 2;
        let (mut known, mut quiet, mut longest_us) = (0, 0, 0);
        let mut workers = BTreeSet::new();
        for (_, node) in self.nodes.iter() {
            if node.state == NodeState::Dead || node.worker.is_empty() {
                continue;
            }
            known += 1;
            let silent_us = now.us.saturating_sub(self.heard_us(node));
            if silent_us >= together_us {
                quiet += 1;
                workers.insert(&*node.worker);
            }
            longest_us = longest_us.max(silent_us);
        }
        let has_begun = self.suspects_itself || longest_us >= suspect_after;
        has_begun && workers.len() >= TOGETHER && quiet * 100 > known * SELF_SUSPICION_PERCENT
    }

    fn forgive_silence(&mut self, now: Now, suspect_after: u64) {
        let is_silent = |since: u64| now.us.saturating_sub(since) >= suspect_after / 2;
        for worker in self.workers.iter_mut().filter(|worker| is_silent(worker.last_beat_us)) {
            worker.last_beat_us = now.us;
        }
        for node in self.nodes.iter_mut().filter(|node| node.state != NodeState::Dead) {
            node.silent_since_us = if is_silent(node.silent_since_us) { now.us } else { node.silent_since_us };
        }
    }

    /// Nodes without a worker for too long are dead.
    fn bury_nodes(&mut self, now: Now, dead_after: u64) {
        let dead: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.state == NodeState::Suspect && node.session.is_none())
            .filter(|(_, node)| now.us.saturating_sub(node.silent_since_us) >= dead_after)
            .map(|(key, _)| key)
            .collect();
        for key in dead {
            tracing::warn!(node = %self.nodes.get(key).name, "dead: its sandboxes are replaced");
            self.nodes.get_mut(key).state = NodeState::Dead;
            self.recovery.nodes_reported(&[key]);
            for id in self.sandboxes_on(key) {
                let Some(sandbox) = self.sandboxes.get(&id) else { continue };
                let function = sandbox.function;
                if sandbox.may_be_held() {
                    self.nodes.get_mut(key).given_up.insert(id);
                }
                self.forget_sandbox(id, "failed");
                self.decide(now, function, now.us);
            }
            self.settle_unclaimed(now);
        }
    }

    /// No new work for a node; its waiting invocations go elsewhere.
    pub(super) fn suspect_node(&mut self, now: Now, key: NodeKey) {
        let node = self.nodes.get_mut(key);
        if node.state != NodeState::Ready {
            return;
        }
        node.state = NodeState::Suspect;
        tracing::info!(node = %node.name, "suspect: silent or disconnected; no new work");
        self.nodes.refresh_open(key);
        for id in self.sandboxes_on(key) {
            let Some(sandbox) = self.sandboxes.get(&id) else { continue };
            let function = sandbox.function;
            match sandbox.standing {
                Standing::Ready => {
                    self.set_standing(id, Standing::Suspended);
                    self.send_endpoint(id, EndpointState::Suspended);
                }
                // It will not be ready soon, if at all: its demand is served elsewhere.
                Standing::Starting => self.delete_sandbox(id),
                Standing::Suspended | Standing::Unclaimed | Standing::Draining | Standing::Deleting => {}
            }
            self.decide(now, function, now.us);
        }
    }

    /// A suspect node gave a sign of life.
    pub(super) fn trust_node(&mut self, now: Now, key: NodeKey) {
        let node = self.nodes.get_mut(key);
        node.state = NodeState::Ready;
        tracing::info!(node = %node.name, "back");
        self.nodes.refresh_open(key);
        for id in self.sandboxes_on(key) {
            self.resume_sandbox(id);
            if let Some(function) = self.sandboxes.get(&id).map(|sandbox| sandbox.function) {
                self.decide(now, function, now.us);
            }
        }
    }

    pub(super) fn resume_sandbox(&mut self, id: SandboxId) {
        if self.sandboxes.get(&id).is_some_and(|sandbox| sandbox.standing == Standing::Suspended) {
            self.set_standing(id, Standing::Ready);
            self.send_endpoint(id, EndpointState::Active);
        }
    }

    pub(super) fn sandboxes_on(&self, key: NodeKey) -> Vec<SandboxId> {
        self.nodes.get(key).sandboxes.iter().copied().collect()
    }

    /// A data plane that stays away loses what it holds, once that is durable: until then it may come back, and after
    /// that it is a new one, here and for the next control plane.
    fn end_grace(&mut self, now: Now) {
        let grace = micros(self.settings.health.data_plane_grace);
        let is_gone = |left_us: u64| now.us.saturating_sub(left_us) >= grace;
        let known = self.data_planes.iter_mut();
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

    /// Ends what a data plane held, never to be lent again, and forgets it.
    pub(super) fn remove_data_plane(&mut self, now: Now, key: DataPlaneKey) {
        if let Some(session) = self.data_planes.get(key).and_then(|known| known.session) {
            // It came back by another way than it left: it has to say anew what it holds.
            self.effect(Effect::Close { session, reason: "it was given up meanwhile".to_owned() });
            self.data_plane_left(now, session);
        }
        let lent_to_it = self.sandboxes.iter().filter(|(_, sandbox)| sandbox.is_lent_to(key));
        for id in lent_to_it.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.delete_sandbox(id);
            self.end_loan(id);
        }
        // It may hold what nobody else claims, and cannot be asked.
        self.recovery.holder_lost(key);
        if let Some(known) = self.data_planes.get(key) {
            tracing::warn!(data_plane = %known.id, "gone: the sandboxes it held are ended");
        }
        self.recovery.data_plane_reported(key);
        self.forget_levels(now, key);
        self.data_planes.remove(key);
        self.settle_unclaimed(now);
    }

    /// Forgets the demand that a data plane reported.
    fn forget_levels(&mut self, now: Now, key: DataPlaneKey) {
        let mut touched = Vec::new();
        for (id, function) in self.functions.iter_mut() {
            let before = function.levels.len();
            function.levels.retain(|(level, _)| *level != key);
            if function.levels.len() < before {
                touched.push(id);
            }
        }
        self.decide_all(now, touched, now.us);
    }
}
