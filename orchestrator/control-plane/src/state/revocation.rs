//! Asking data planes for slots: surplus, and what others wait for. They may refuse what they use, and one that does not
//! answer is not waited for.

use api::wire;
use model::{FunctionId, SandboxId};
use policy::autoscale::{Decision, Supply};

use super::{
    Cluster, DataPlaneChange, Now, State,
    data_plane::{DataPlaneKey, FunctionLoad, GrantCap},
    sandbox::SandboxState,
};

/// After a limit that brought no slots back, the data plane is asked again no sooner than this.
const REVOCATION_RETRY_US: u64 = 1_000_000;

/// A data plane asked for what others wait for answers within this time, also when it is busy; then it is not counted on.
const REVOCATION_TIMEOUT_US: u64 = 250_000;

/// What a data plane is asked to give back: all but `slots`, as far as idle for long enough; busy ones too if `drain`.
struct RevocationRequest {
    slots: u32,
    min_idle_ms: u64,
    drain: bool,
}

impl Cluster {
    /// What a function has to serve with: without what is granted to data planes that do not answer.
    pub(super) fn supply_in_reach(&self, id: FunctionId) -> Supply {
        let Some(function) = self.functions.get(id) else { return Supply::default() };
        let supply = function.supply();
        if !function.loads.iter().any(|(_, load)| load.silent) {
            return supply;
        }
        let is_out_of_reach = |id: &&SandboxId| {
            self.sandboxes.get(id).is_some_and(|sandbox| {
                let holder = sandbox.grant.and_then(|grant| function.load(grant.data_plane));
                sandbox.state == SandboxState::Ready && holder.is_some_and(|load| load.silent)
            })
        };
        let out_of_reach = function.sandboxes.iter().filter(is_out_of_reach).count();
        Supply { ready: supply.ready.saturating_sub(u32::try_from(out_of_reach).unwrap_or(u32::MAX)), ..supply }
    }
}

impl State {
    /// Takes note of data planes that should have answered by now. When the next one should have.
    pub(super) fn note_unanswered(&mut self, now: Now, id: FunctionId) -> Option<u64> {
        let function = self.cluster.functions.get_mut(id)?;
        for (_, load) in &mut function.loads {
            if load.cap.due_us.is_some_and(|due| due <= now.us) {
                (load.cap.due_us, load.silent) = (None, true);
            }
        }
        function.loads.iter().filter_map(|(_, load)| load.cap.due_us).min()
    }

    /// Asks data planes to give back `surplus` sandboxes of a function, those with most idle slots first.
    pub(super) fn revoke_surplus(&mut self, now: Now, id: FunctionId, surplus: u32, decision: &Decision) {
        let Some(function) = self.cluster.functions.get(id) else { return };
        let concurrency = function.registered.spec.concurrency;
        let mut holders: Vec<_> = function
            .loads
            .iter()
            .filter(|(_, load)| load.held > 0 && !load.silent)
            .map(|(key, load)| (load.idle(), *key))
            .collect();
        holders.sort_unstable_by(|one, other| other.cmp(one));
        let mut left = surplus;
        for (_, key) in holders {
            let Some(load) = self.cluster.functions.get(id).and_then(|function| function.load(key)) else { continue };
            let back = left.min(load.held.div_ceil(concurrency));
            if back == 0 {
                return;
            }
            left -= back;
            let slots = load.held.saturating_sub(back.saturating_mul(concurrency));
            let asked_already = load.cap.slots == Some(slots) && (load.cap.pending || load.cap.drain);
            if !asked_already && now.us >= load.cap.not_before_us {
                let (min_idle_ms, drain) = (decision.min_idle_ms, decision.drain);
                self.send_cap(id, key, RevocationRequest { slots, min_idle_ms, drain });
            }
        }
    }

    /// Asks data planes that hold slots and have nobody waiting to give some to those where invocations wait and
    /// nothing under way will serve them. How many sandboxes may come of it.
    ///
    /// Who is asked may have used its slots in the meantime and refuse; with `until_free` it gives them back as soon as
    /// they are free.
    pub(super) fn request_revocations(&mut self, now: Now, id: FunctionId, until_free: bool) -> u32 {
        let Some(function) = self.cluster.functions.get(id) else { return 0 };
        let concurrency = function.registered.spec.concurrency;
        let unmet: u32 = function.loads.iter().map(|(_, load)| load.unmet()).fold(0, u32::saturating_add);
        if unmet == 0 {
            return 0;
        }
        let asked: u32 = function.loads.iter().map(|(_, load)| load.pending_revocation()).fold(0, u32::saturating_add);
        let mut missing = unmet.saturating_sub(function.starting.saturating_mul(concurrency)).saturating_sub(asked);
        let may_be_asked = |load: &FunctionLoad| {
            let is_asked = load.silent || load.pending_revocation() > 0;
            load.held > 0 && load.waiting == 0 && !is_asked && now.us >= load.cap.not_before_us
        };
        let holders = function.loads.iter().filter(|(_, load)| may_be_asked(load));
        let holders: Vec<_> = holders.map(|(key, load)| (*key, load.held)).collect();
        let mut coming = asked;
        for (key, held) in holders {
            let is_connected = self.cluster.data_planes.get(key).is_some_and(|known| known.session.is_some());
            if missing == 0 || !is_connected {
                continue;
            }
            let back = missing.min(held).next_multiple_of(concurrency).min(held);
            missing = missing.saturating_sub(back);
            coming += back;
            self.send_cap(id, key, RevocationRequest { slots: held - back, min_idle_ms: 0, drain: until_free });
            if let Some(function) = self.cluster.functions.get_mut(id) {
                function.load_mut(key).cap.due_us = Some(now.us + REVOCATION_TIMEOUT_US);
            }
        }
        coming / concurrency
    }

    fn send_cap(&mut self, id: FunctionId, key: DataPlaneKey, ask: RevocationRequest) {
        let RevocationRequest { slots, min_idle_ms, drain } = ask;
        let version = self.cluster.data_planes.next_version();
        let Some(function) = self.cluster.functions.get_mut(id) else { return };
        let limit = &mut function.load_mut(key).cap;
        *limit = GrantCap { version, slots: Some(slots), drain, pending: true, due_us: None, ..*limit };
        let limit = wire::GrantLimit { function: id.0, version, slots, min_idle_ms, drain };
        self.tell_data_plane(key, DataPlaneChange::GrantCap(limit));
    }

    /// Ends a limit that would make a data plane give back what it is granted.
    pub(super) fn lift_cap(&mut self, id: FunctionId, key: DataPlaneKey) {
        self.send_cap(id, key, RevocationRequest { slots: u32::MAX, min_idle_ms: 0, drain: false });
        if let Some(function) = self.cluster.functions.get_mut(id) {
            function.load_mut(key).cap.slots = None;
        }
    }

    /// A data plane has done what a limit asked, as far as it could. The function, as a decision follows.
    pub(super) fn on_cap_ack(&mut self, now: Now, key: DataPlaneKey, ack: &wire::LimitAck) -> Option<FunctionId> {
        let id = FunctionId(ack.function);
        let function = self.cluster.functions.get_mut(id)?;
        let load = function.load_mut(key);
        if load.cap.version != ack.version {
            return None;
        }
        (load.cap.pending, load.cap.due_us, load.silent) = (false, None, false);
        let asked = load.cap.slots.unwrap_or(u32::MAX);
        if load.held > asked {
            // It uses more than was believed, or not for long enough unused, or it holds less than is believed here:
            // whatever the reason, asking at once again would bring the same answer.
            load.cap.not_before_us = now.us + REVOCATION_RETRY_US;
        }
        if ack.slots > asked && !load.cap.drain {
            load.running = load.running.max(ack.slots.saturating_sub(load.waiting));
        }
        // A limit that was met ends there, and slots granted meanwhile are not given back for it: here it ends as well, or
        // they would be counted on for ever.
        if !load.cap.drain || ack.slots <= asked {
            (load.cap.slots, load.cap.drain) = (None, false);
        }
        Some(id)
    }
}
