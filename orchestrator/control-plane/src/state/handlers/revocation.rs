//! Revocation of grants: data planes are requested to return a surplus, and slots for which invocations wait elsewhere.
//! They may refuse to return busy slots, and one that does not respond is not waited for.

use model::{FunctionId, SandboxId};
use policy::autoscale::{Decision, Supply};

use super::{
    super::{
        cluster::{DataPlaneKey, FunctionLoad, GrantCap, SandboxState, Tables},
        effects::{CapChange, DataPlaneChange},
    },
    grant::GrantHandler,
};
use crate::message::CapAck;

/// Shortest time between a cap that brought no slots back and the next one, in microseconds.
const REVOCATION_RETRY_US: u64 = 1_000_000;

/// Time within which even a busy data plane acknowledges a cap, in microseconds; after that it counts as unresponsive.
const REVOCATION_TIMEOUT_US: u64 = 250_000;

/// Bound on the slots that a data plane keeps: it returns the others that are idle for long enough; with `drain` also
/// busy ones, as they become free.
struct RevocationRequest {
    slots: u32,
    min_idle_ms: u64,
    drain: bool,
}

impl Tables {
    /// Supply of a function, without what is granted to data planes that do not respond.
    pub(super) fn supply_in_reach(&self, id: FunctionId) -> Supply {
        let Some(function) = self.functions.known(id) else { return Supply::default() };
        let supply = function.supply();
        if !function.loads().any(|(_, load)| load.unresponsive) {
            return supply;
        }
        let is_out_of_reach = |id: &&SandboxId| {
            self.sandboxes.known(**id).is_some_and(|sandbox| {
                let holder = sandbox.grant().and_then(|grant| function.load(grant.data_plane));
                sandbox.state() == SandboxState::Ready && holder.is_some_and(|load| load.unresponsive)
            })
        };
        let out_of_reach = function.sandboxes().iter().filter(is_out_of_reach).count();
        Supply { ready: supply.ready.saturating_sub(u32::try_from(out_of_reach).unwrap_or(u32::MAX)), ..supply }
    }
}

impl GrantHandler<'_> {
    /// Marks data planes as unresponsive that have not acknowledged a cap in time. Returns the next deadline, in
    /// microseconds.
    pub(super) fn note_unacknowledged(&mut self, id: FunctionId) -> Option<u64> {
        let now = self.now;
        let function = self.functions.known_mut(id)?;
        for load in function.loads_mut() {
            if load.cap.due_us.is_some_and(|due| due <= now.us) {
                (load.cap.due_us, load.unresponsive) = (None, true);
            }
        }
        function.loads().filter_map(|(_, load)| load.cap.due_us).min()
    }

    /// Requests `surplus` sandboxes of a function back from data planes, those with the most idle slots first.
    pub(super) fn revoke_surplus(&mut self, id: FunctionId, surplus: u32, decision: &Decision) {
        let Some(function) = self.functions.known(id) else { return };
        let concurrency = function.registered.spec.concurrency;
        let mut holders: Vec<_> = function
            .loads()
            .filter(|(_, load)| load.held() > 0 && !load.unresponsive)
            .map(|(key, load)| (load.idle(), key))
            .collect();
        // The key breaks ties, so that a seed replays the same choice.
        holders.sort_unstable_by(|one, other| other.cmp(one));
        let mut left = surplus;
        for (_, key) in holders {
            let Some(load) = self.functions.known(id).and_then(|function| function.load(key)) else { continue };
            let back = left.min(load.held().div_ceil(concurrency));
            if back == 0 {
                return;
            }
            left -= back;
            let slots = load.held().saturating_sub(back.saturating_mul(concurrency));
            let is_asked = load.cap.slots == Some(slots) && (load.cap.pending || load.cap.drain);
            if !is_asked && self.now.us >= load.cap.not_before_us {
                let (min_idle_ms, drain) = (decision.min_idle_ms, decision.drain);
                self.send_cap(id, key, RevocationRequest { slots, min_idle_ms, drain });
            }
        }
    }

    /// Requests slots back from data planes where no invocation waits, for those where invocations wait that no grant on its
    /// way will serve. Returns how many sandboxes may be given back.
    ///
    /// A data plane may have used its slots in the meantime and refuse; with `until_free` it gives them back as soon as they
    /// are free.
    pub(super) fn request_revocations(&mut self, id: FunctionId, until_free: bool) -> u32 {
        let Some(function) = self.functions.known(id) else { return 0 };
        let concurrency = function.registered.spec.concurrency;
        let unmet: u32 = function.loads().map(|(_, load)| load.unmet()).fold(0, u32::saturating_add);
        if unmet == 0 {
            return 0;
        }
        let requested: u32 = function.loads().map(|(_, load)| load.pending_revocation()).fold(0, u32::saturating_add);
        let mut missing =
            unmet.saturating_sub(function.starting().saturating_mul(concurrency)).saturating_sub(requested);
        let may_give_back = |load: &FunctionLoad| {
            let is_asked = load.unresponsive || load.pending_revocation() > 0;
            load.held() > 0 && load.waiting == 0 && !is_asked && self.now.us >= load.cap.not_before_us
        };
        let holders = function.loads().filter(|(_, load)| may_give_back(load));
        let holders: Vec<_> = holders.map(|(key, load)| (key, load.held())).collect();
        let mut coming = requested;
        for (key, held) in holders {
            let is_connected = self.data_planes.get(key).is_some_and(|known| known.session.is_some());
            if missing == 0 || !is_connected {
                continue;
            }
            let back = missing.min(held).next_multiple_of(concurrency).min(held);
            missing = missing.saturating_sub(back);
            coming += back;
            self.send_cap(id, key, RevocationRequest { slots: held - back, min_idle_ms: 0, drain: until_free });
            if let Some(function) = self.functions.known_mut(id) {
                function.load_mut(key).cap.due_us = Some(self.now.us + REVOCATION_TIMEOUT_US);
            }
        }
        coming / concurrency
    }

    fn send_cap(&mut self, id: FunctionId, key: DataPlaneKey, request: RevocationRequest) {
        let RevocationRequest { slots, min_idle_ms, drain } = request;
        let version = self.data_planes.next_version();
        let Some(function) = self.functions.known_mut(id) else { return };
        let cap = &mut function.load_mut(key).cap;
        *cap = GrantCap { version: Some(version), slots: Some(slots), drain, pending: true, due_us: None, ..*cap };
        let change = CapChange { function: id, version, slots, min_idle_ms, drain };
        self.effects.send_to_data_plane(self.data_planes, key, DataPlaneChange::GrantCap(change));
    }

    /// Ends a cap.
    pub(super) fn lift_cap(&mut self, id: FunctionId, key: DataPlaneKey) {
        self.send_cap(id, key, RevocationRequest { slots: u32::MAX, min_idle_ms: 0, drain: false });
        if let Some(function) = self.functions.known_mut(id) {
            function.load_mut(key).cap.slots = None;
        }
    }

    /// A data plane has obeyed a cap as far as it could. Returns the function, as a decision follows.
    pub(super) fn on_cap_ack(&mut self, key: DataPlaneKey, ack: &CapAck) -> Option<FunctionId> {
        let id = ack.function;
        // The function may be gone, and an acknowledgement alone is no reason to track a load.
        let load = self.functions.get_mut(id)?.reported_load_mut(key)?;
        if load.cap.version != ack.version {
            return None;
        }
        (load.cap.pending, load.cap.due_us, load.unresponsive) = (false, None, false);
        let cap = load.cap.slots.unwrap_or(u32::MAX);
        if load.held() > cap {
            // It uses more slots than expected, or they are not idle for long enough, or it holds fewer than the tables
            // say: in each case the same cap would bring the same response now.
            load.cap.not_before_us = self.now.us + REVOCATION_RETRY_US;
        }
        if ack.slots > cap && !load.cap.drain {
            load.running = load.running.max(ack.slots.saturating_sub(load.waiting));
        }
        // A cap that was met ends at the data plane, and slots granted later are not returned for it. It must end here
        // as well, or the returns would be expected for ever.
        if !load.cap.drain || ack.slots <= cap {
            (load.cap.slots, load.cap.drain) = (None, false);
        }
        Some(id)
    }
}
