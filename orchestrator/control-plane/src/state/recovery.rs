//! State of a restart: the peers that have to report before anything is decided, and the grants that they claim.

use std::collections::BTreeSet;

use model::{FunctionId, SandboxId};
use policy::placement::NodeKey;

use super::{Map, Now, cluster::DataPlaneKey};
use crate::message::HeldGrant;

/// Most sandboxes that are remembered as given up or broken before a worker has reported them: more than a cluster has.
/// Once there is one more, no unclaimed sandbox is granted.
const MAX_GIVEN_UP: usize = 65_536;

/// State of the time before the restart that is not confirmed yet.
#[derive(Default)]
pub(super) struct Recovery {
    /// Latest time until which decisions wait, in microseconds; `None` once they are made.
    until_us: Option<u64>,
    /// Nodes whose worker has not reported.
    nodes: BTreeSet<NodeKey>,
    /// Data planes that have not reported.
    data_planes: BTreeSet<DataPlaneKey>,
    /// Functions with something to decide.
    postponed: BTreeSet<FunctionId>,
    /// Slots that data planes hold of sandboxes that no worker has reported yet.
    claims: Map<SandboxId, (DataPlaneKey, HeldGrant)>,
    /// Claimed, but given up with the worker that may have it, or broken. Ended if a worker reports it, since its
    /// holder may not know. At most [`MAX_GIVEN_UP`].
    given_up: BTreeSet<SandboxId>,
    /// A data plane has ended, or not every given-up sandbox is remembered: invocations may still run in unclaimed
    /// sandboxes.
    holders_lost: bool,
    /// Workers were not told of a change of the data planes.
    withholds_data_plane_index: bool,
}

impl Recovery {
    /// Waits until `until_us` at most for these peers.
    pub(super) fn begin(
        &mut self,
        until_us: u64,
        nodes: impl IntoIterator<Item = NodeKey>,
        data_planes: impl IntoIterator<Item = DataPlaneKey>,
    ) {
        self.nodes = nodes.into_iter().collect();
        self.data_planes = data_planes.into_iter().collect();
        self.until_us = Some(until_us);
    }

    /// Ends the wait, once every peer has reported or the window is over. Returns the functions to decide on.
    pub(super) fn finish(&mut self, now: Now) -> BTreeSet<FunctionId> {
        let all_reported = self.nodes.is_empty() && self.data_planes.is_empty();
        if self.until_us.is_some_and(|until_us| all_reported || now.us >= until_us) {
            self.until_us = None;
            return std::mem::take(&mut self.postponed);
        }
        BTreeSet::new()
    }

    /// Returns true once operators and clients can be served.
    pub(super) fn is_finished(&self) -> bool {
        self.until_us.is_none()
    }

    /// Takes all claims, in the order of their sandboxes.
    pub(super) fn take_claims(&mut self) -> Vec<(DataPlaneKey, HeldGrant)> {
        let mut claims: Vec<_> = self.claims.drain().map(|(_, claim)| claim).collect();
        claims.sort_unstable_by_key(|(_, grant)| grant.sandbox);
        claims
    }

    /// Returns true if invocations may still run in unclaimed sandboxes.
    pub(super) fn has_lost_holders(&self) -> bool {
        self.holders_lost
    }

    /// Returns true if the decision on a function has to wait; it follows when the wait is over.
    pub(super) fn postpones(&mut self, id: FunctionId) -> bool {
        let waits = self.until_us.is_some();
        if waits {
            self.postponed.insert(id);
        }
        waits
    }

    /// Extends the wait by the time for which this process was stopped.
    pub(super) fn postpone(&mut self, by_us: u64) {
        self.until_us = self.until_us.map(|until| until.saturating_add(by_us));
    }

    pub(super) fn due_us(&self) -> Option<u64> {
        self.until_us
    }

    /// Returns true if workers may still report sandboxes that this control plane does not know.
    pub(super) fn expects_sandboxes(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Returns true if some data plane may hold slots that it has not reported.
    pub(super) fn awaits_data_planes(&self) -> bool {
        !self.data_planes.is_empty()
    }

    pub(super) fn awaits(&self, key: DataPlaneKey) -> bool {
        self.data_planes.contains(&key)
    }

    /// A data plane is gone, or is a new process, which cannot know the grants of its predecessor. Sandboxes that the
    /// predecessor claimed are ended; if it has claimed none yet, all unclaimed ones are.
    pub(super) fn holder_lost(&mut self, key: DataPlaneKey) {
        self.holders_lost |= self.awaits(key);
        let claimed: Vec<_> = self.claims.iter().filter(|(_, claim)| claim.0 == key).map(|(id, _)| *id).collect();
        for id in claimed {
            self.claims.remove(&id);
            self.give_up(id);
        }
    }

    /// Returns true if a sandbox of the time before the restart, as found on its worker, may be granted at once.
    pub(super) fn trusts_unclaimed(&self) -> bool {
        !self.awaits_data_planes() && !self.holders_lost
    }

    /// A data plane claims slots of a sandbox. Returns false if another one has claimed it before.
    #[must_use]
    pub(super) fn claim(&mut self, data_plane: DataPlaneKey, grant: HeldGrant) -> bool {
        let claim = self.claims.entry(grant.sandbox).or_insert((data_plane, grant));
        let is_first = claim.0 == data_plane;
        if is_first {
            claim.1 = grant;
        }
        is_first
    }

    /// A data plane reports that a sandbox does not work that no worker has reported yet. Ignored if another one claims
    /// it, about which this one knows nothing.
    pub(super) fn note_broken(&mut self, data_plane: DataPlaneKey, sandbox: SandboxId) {
        if self.claims.get(&sandbox).is_some_and(|(holder, _)| *holder != data_plane) {
            return;
        }
        self.claims.remove(&sandbox);
        self.give_up(sandbox);
    }

    /// Ends a sandbox if a worker reports it: invocations may still run there.
    pub(super) fn give_up(&mut self, sandbox: SandboxId) {
        if self.given_up.len() < MAX_GIVEN_UP {
            self.given_up.insert(sandbox);
        } else {
            self.holders_lost = true;
        }
    }

    /// Returns true if a sandbox was given up while a data plane claimed it, or does not work.
    pub(super) fn was_given_up(&self, sandbox: SandboxId) -> bool {
        self.given_up.contains(&sandbox)
    }

    /// Returns true if a data plane has claimed slots of a sandbox that no worker had reported.
    pub(super) fn is_claimed(&self, sandbox: SandboxId) -> bool {
        self.claims.contains_key(&sandbox)
    }

    pub(super) fn take_claim(&mut self, sandbox: SandboxId) -> Option<(DataPlaneKey, HeldGrant)> {
        self.claims.remove(&sandbox)
    }

    /// Workers are told of changes of the data planes once no data plane is awaited.
    pub(super) fn withhold_data_plane_index(&mut self) {
        self.withholds_data_plane_index = true;
    }

    /// Returns true if workers are to be told now of what was withheld.
    pub(super) fn take_withheld_data_plane_index(&mut self) -> bool {
        !self.awaits_data_planes() && std::mem::take(&mut self.withholds_data_plane_index)
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
