//! Who is alive: suspicion, death, and return of workers; the grace of vanished data planes.

use model::{EndpointState, SandboxId};
use policy::placement::NodeKey;

use super::{Effect, Now, State, data_plane::DataPlaneKey, grant::micros, node::NodeState, sandbox::Standing};
use crate::store::Command;

/// From this many workers on, a share of silent ones says more about the control plane than about them.
const SELF_SUSPICION_FROM_WORKERS: usize = 4;
/// That share, in percent.
const SELF_SUSPICION_PERCENT: usize = 30;

impl State {
    /// Whether anybody is there whose silence would mean something.
    pub(super) fn watches_health(&self) -> bool {
        self.workers.len() > 0
            || self.data_planes.iter().next().is_some()
            || self.nodes.iter().any(|(_, node)| node.state == NodeState::Suspect)
    }

    pub(super) fn check_health(&mut self, now: Now) {
        let suspect_after = micros(self.settings.health.suspect_after);
        let dead_after = micros(self.settings.health.dead_after);
        let silent: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| now.us.saturating_sub(worker.last_beat_us) >= suspect_after)
            .map(|(session, worker)| (session, worker.last_beat_us, worker.nodes.clone()))
            .collect();
        let suspects_itself = self.workers.len() >= SELF_SUSPICION_FROM_WORKERS
            && silent.len() * 100 > self.workers.len() * SELF_SUSPICION_PERCENT;
        let did_before = self.metrics.self_suspicion.set(i64::from(suspects_itself)) == 1;
        if suspects_itself && !did_before {
            let (silent, workers) = (silent.len(), self.workers.len());
            tracing::warn!(
                silent,
                workers,
                "so many workers are silent that the cause may be here; nothing is replaced"
            );
        }
        if !suspects_itself {
            for (session, last_beat_us, nodes) in silent {
                for key in nodes {
                    self.nodes.note_silence(key, last_beat_us);
                    self.suspect_node(now, key);
                }
                if now.us.saturating_sub(last_beat_us) >= dead_after {
                    self.effect(Effect::Close { session, reason: "silent for too long".to_owned() });
                    self.worker_left(now, session);
                }
            }
            self.bury_nodes(now, dead_after);
        }
        self.end_grace(now);
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

    /// A data plane that stays away loses what it holds: those sandboxes are ended, never lent again.
    fn end_grace(&mut self, now: Now) {
        let grace = micros(self.settings.health.data_plane_grace);
        let gone: Vec<DataPlaneKey> = self
            .data_planes
            .iter()
            .filter(|(_, known)| known.session.is_none() && now.us.saturating_sub(known.left_us) >= grace)
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            let held: Vec<_> = self
                .sandboxes
                .iter()
                .filter(|(_, sandbox)| sandbox.loan.is_some_and(|loan| loan.data_plane == key))
                .map(|(id, _)| *id)
                .collect();
            for id in held {
                self.delete_sandbox(id);
                self.end_loan(id);
            }
            // It may hold what nobody else claims, and cannot be asked.
            self.recovery.holder_lost(key);
            if let Some(known) = self.data_planes.get(key) {
                tracing::warn!(data_plane = %known.id, "gone: the sandboxes it held are ended");
                let command = Command::RemoveDataPlane { id: known.id.clone() };
                self.effect(Effect::Append { command, token: None });
            }
            self.recovery.data_plane_reported(key);
            self.forget_levels(now, key);
            self.data_planes.remove(key);
            self.settle_unclaimed(now);
        }
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
