//! After a restart: who has to report before anything is decided, and what they claim to hold.

use std::collections::BTreeSet;

use api::wire::HeldGrant;
use model::{FunctionId, NodeSpec, SandboxId};
use policy::placement::NodeKey;

use super::{
    Cluster, Map, Now, State,
    data_plane::DataPlaneKey,
    node::NodeState,
    sandbox::{Sandbox, SandboxState},
};
use crate::registry::{RegisteredNode, Registry};

/// Sandboxes that are remembered as given up or broken before a worker has reported them, at most: more than a cluster
/// has. With one more, none is granted that nobody claims.
const MAX_GIVEN_UP: usize = 65_536;

/// What is known of the time before the restart but not yet confirmed.
#[derive(Default)]
pub(super) struct Recovery {
    /// Decisions wait until then at most, in microseconds; `None` once they are made.
    until_us: Option<u64>,
    /// Nodes whose worker has not reported.
    nodes: BTreeSet<NodeKey>,
    /// Data planes that have not reported.
    data_planes: BTreeSet<DataPlaneKey>,
    /// Functions with something to decide.
    postponed: BTreeSet<FunctionId>,
    /// Slots that data planes hold of sandboxes that no worker has reported yet.
    claims: Map<SandboxId, (DataPlaneKey, HeldGrant)>,
    /// Claimed, but given up with the worker that may have it, or broken: ended should they turn up, since who claimed
    /// them may not have heard of it. At most [`MAX_GIVEN_UP`].
    given_up: BTreeSet<SandboxId>,
    /// A data plane ended meanwhile, or not every sandbox that was given up is remembered: what nobody claims may still run
    /// what somebody began.
    holders_lost: bool,
}

impl Recovery {
    /// Whether deciding on a function has to wait; it is decided on when the waiting is over.
    pub(super) fn postpones(&mut self, id: FunctionId) -> bool {
        let waits = self.until_us.is_some();
        if waits {
            self.postponed.insert(id);
        }
        waits
    }

    /// Decisions wait for so much longer.
    pub(super) fn postpone(&mut self, by_us: u64) {
        self.until_us = self.until_us.map(|until| until.saturating_add(by_us));
    }

    pub(super) fn due_us(&self) -> Option<u64> {
        self.until_us
    }

    /// Whether workers may still report sandboxes that this control plane does not know.
    pub(super) fn expects_sandboxes(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Whether some data plane may hold slots that it has not reported.
    pub(super) fn awaits_data_planes(&self) -> bool {
        !self.data_planes.is_empty()
    }

    pub(super) fn awaits(&self, key: DataPlaneKey) -> bool {
        self.data_planes.contains(&key)
    }

    /// A data plane is a new process, which cannot know what its predecessor held, or is no more: that of which the
    /// predecessor said that it holds it ends, and if it has not said so, whatever nobody claims.
    pub(super) fn holder_lost(&mut self, key: DataPlaneKey) {
        self.holders_lost |= self.awaits(key);
        let claimed: Vec<_> = self.claims.iter().filter(|(_, claim)| claim.0 == key).map(|(id, _)| *id).collect();
        for id in claimed {
            self.claims.remove(&id);
            self.give_up(id);
        }
    }

    /// Whether a sandbox of the time before the restart, as found on its worker, may be granted at once.
    pub(super) fn trusts_unclaimed(&self) -> bool {
        !self.awaits_data_planes() && !self.holders_lost
    }

    /// A data plane says that it holds slots of a sandbox. False when another one has said so before.
    #[must_use]
    pub(super) fn claim(&mut self, data_plane: DataPlaneKey, grant: HeldGrant) -> bool {
        let claim = self.claims.entry(SandboxId::from_wire(grant.sandbox)).or_insert((data_plane, grant));
        let is_first = claim.0 == data_plane;
        if is_first {
            claim.1 = grant;
        }
        is_first
    }

    /// A data plane says that a sandbox does not work which no worker has reported yet. Of what another one claims it
    /// knows nothing.
    pub(super) fn note_broken(&mut self, data_plane: DataPlaneKey, sandbox: SandboxId) {
        if self.claims.get(&sandbox).is_some_and(|(holder, _)| *holder != data_plane) {
            return;
        }
        self.claims.remove(&sandbox);
        self.give_up(sandbox);
    }

    /// A sandbox ends should a worker report it: what somebody began there may still run.
    pub(super) fn give_up(&mut self, sandbox: SandboxId) {
        if self.given_up.len() < MAX_GIVEN_UP {
            self.given_up.insert(sandbox);
        } else {
            self.holders_lost = true;
        }
    }

    /// Whether a sandbox was given up while a data plane claimed it, or does not work.
    pub(super) fn was_given_up(&self, sandbox: SandboxId) -> bool {
        self.given_up.contains(&sandbox)
    }

    /// Whether a data plane has said that it holds slots of a sandbox that no worker had reported.
    pub(super) fn is_claimed(&self, sandbox: SandboxId) -> bool {
        self.claims.contains_key(&sandbox)
    }

    pub(super) fn take_claim(&mut self, sandbox: SandboxId) -> Option<(DataPlaneKey, HeldGrant)> {
        self.claims.remove(&sandbox)
    }

    pub(super) fn nodes_reported(&mut self, nodes: &[NodeKey]) {
        for node in nodes {
            self.nodes.remove(node);
        }
    }

    pub(super) fn data_plane_reported(&mut self, key: DataPlaneKey) {
        self.data_planes.remove(&key);
    }
}

impl Cluster {
    /// Sandboxes that a data plane may hold that has not reported.
    pub(super) fn unclaimed(&self) -> Vec<SandboxId> {
        let may_be_held = |sandbox: &Sandbox| match sandbox.state {
            SandboxState::Unclaimed => true,
            SandboxState::Draining => sandbox.grant.is_none(),
            _ => false,
        };
        self.sandboxes.iter().filter(|(_, sandbox)| may_be_held(sandbox)).map(|(id, _)| *id).collect()
    }
}

impl State {
    /// Takes over what is durable, the beginning of this epoch included.
    pub(crate) fn load(&mut self, registry: Registry) {
        self.registry = registry;
        for (name, RegisteredNode { capacity, drained }) in self.registry.nodes() {
            self.cluster.nodes.put(&NodeSpec { name: name.clone(), capacity: *capacity });
            if let Some(key) = self.cluster.nodes.find(&name.0) {
                self.cluster.nodes.get_mut(key).drained = *drained;
            }
        }
        for id in self.registry.data_planes() {
            self.cluster.data_planes.put(id, 0);
        }
        for registered in self.registry.functions().cloned().collect::<Vec<_>>() {
            self.insert_function(registered);
        }
    }

    /// Peers can connect from now on: waits for those who know what is not durable. However long it took to get here, they
    /// could not be heard of.
    pub(crate) fn recover(&mut self, now: Now) {
        self.recovery.nodes = self.cluster.nodes.iter().map(|(key, _)| key).collect();
        self.recovery.data_planes = self.cluster.data_planes.iter().map(|(key, _)| key).collect();
        for key in self.recovery.nodes.clone() {
            let node = self.cluster.nodes.get_mut(key);
            (node.state, node.has_older) = (NodeState::Suspect, true);
            self.cluster.nodes.note_silence(key, now.us);
        }
        self.cluster.data_planes.iter_mut().for_each(|known| known.left_us = now.us);
        let mut functions = Vec::new();
        for (id, function) in self.cluster.functions.iter_mut() {
            function.hold_until_us = now.after(function.registered.spec.scale.stable_window);
            functions.push(id);
        }
        self.touch_all(functions, now.us);
        self.recovery.until_us = Some(now.after(self.settings.health.recovery_window));
        self.timers.restart_health(now);
        // All of it is postponed.
        self.decide_touched(now);
        self.finish_recovery(now);
        self.decide_touched(now);
    }

    /// Whether operators and clients can be served.
    pub(super) fn is_recovered(&self) -> bool {
        self.recovery.until_us.is_none()
    }

    /// Begins to decide, once everybody has reported or the window is over.
    pub(super) fn finish_recovery(&mut self, now: Now) {
        let recovery = &mut self.recovery;
        let all_reported = recovery.nodes.is_empty() && recovery.data_planes.is_empty();
        if recovery.until_us.is_none_or(|until| now.us < until && !all_reported) {
            return;
        }
        recovery.until_us = None;
        for id in std::mem::take(&mut recovery.postponed) {
            self.touch(id, now.us);
        }
    }

    /// Once every data plane and worker has reported or was given up, what nobody claimed is free, and what nobody
    /// has is gone.
    pub(super) fn settle_unclaimed(&mut self, now: Now) {
        if !self.recovery.expects_sandboxes() && !self.recovery.claims.is_empty() {
            for (id, (data_plane, grant)) in std::mem::take(&mut self.recovery.claims) {
                self.recovery.give_up(id);
                self.send_gone(data_plane, &grant);
            }
        }
        if self.recovery.awaits_data_planes() {
            return;
        }
        let mut unclaimed = self.cluster.unclaimed();
        unclaimed.sort_unstable();
        for id in unclaimed {
            let Some((function, node)) =
                self.cluster.sandboxes.get(&id).map(|sandbox| (sandbox.function, sandbox.node))
            else {
                continue;
            };
            if self.recovery.holders_lost || self.cluster.nodes.get(node).holders_lost {
                self.delete_sandbox(id);
                self.touch(function, now.us);
            } else {
                self.end_waiting_for_claims(now, id);
            }
        }
    }

    /// Whether a sandbox found after a restart is held, and by whom, is known now.
    pub(super) fn end_waiting_for_claims(&mut self, now: Now, id: SandboxId) {
        let Some(sandbox) = self.cluster.sandboxes.get(&id) else { return };
        let (function, is_held) = (sandbox.function, sandbox.grant.is_some());
        match sandbox.state {
            SandboxState::Unclaimed if self.cluster.nodes.get(sandbox.node).state == NodeState::Ready => {
                self.set_sandbox_state(id, SandboxState::Ready);
            }
            SandboxState::Unclaimed => self.set_sandbox_state(id, SandboxState::Suspended),
            SandboxState::Draining if !is_held => self.delete_sandbox(id),
            _ => {}
        }
        // While it was unclaimed it was no supply, and it may have been replaced.
        self.touch(function, now.us);
    }
}
