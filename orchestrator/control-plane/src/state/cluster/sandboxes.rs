//! The table of sandboxes, with counts over all of them: an operator's request must not hold up decisions for as long as
//! it takes to count a hundred thousand sandboxes.

use model::{FunctionId, SandboxId};

use super::{
    super::Map,
    DataPlaneKey, Functions,
    sandbox::{Grant, Sandbox, SandboxState},
    totals::Totals,
};

/// All sandboxes by id.
#[derive(Default)]
pub(in crate::state) struct Sandboxes {
    by_id: Map<SandboxId, Sandbox>,
    totals: Totals,
}

impl Sandboxes {
    /// A sandbox that a peer names, which may not exist any more.
    pub(in crate::state) fn get(&self, id: SandboxId) -> Option<&Sandbox> {
        self.by_id.get(&id)
    }

    /// A sandbox that exists, as its id comes from another table.
    #[track_caller]
    pub(in crate::state) fn known(&self, id: SandboxId) -> Option<&Sandbox> {
        super::expect_known(self.by_id.get(&id), "sandbox", id)
    }

    /// The same, to change what no other table depends on.
    #[track_caller]
    pub(in crate::state) fn known_mut(&mut self, id: SandboxId) -> Option<&mut Sandbox> {
        super::expect_known(self.by_id.get_mut(&id), "sandbox", id)
    }

    /// The function of a sandbox, if the sandbox exists.
    pub(in crate::state) fn function_of(&self, id: SandboxId) -> Option<FunctionId> {
        self.get(id).map(|sandbox| sandbox.function)
    }

    /// The state of a sandbox; `None` if it does not exist.
    pub(in crate::state) fn state_of(&self, id: SandboxId) -> Option<SandboxState> {
        self.get(id).map(Sandbox::state)
    }

    /// Every sandbox, in no useful order.
    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (SandboxId, &Sandbox)> {
        self.by_id.iter().map(|(id, sandbox)| (*id, sandbox))
    }

    /// The same, to change what no other table depends on.
    pub(in crate::state) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Sandbox> {
        self.by_id.values_mut()
    }

    /// Number of sandboxes in any state.
    pub(in crate::state) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Counts by state, and the slots that are granted.
    pub(in crate::state) fn totals(&self) -> Totals {
        debug_assert_eq!(self.totals, Totals::count(self.by_id.values()), "counts follow every change");
        self.totals
    }

    #[cfg(test)]
    pub(super) fn uncounted_totals(&self) -> Totals {
        self.totals
    }

    /// Grants all slots of a free sandbox to a data plane, which has not acknowledged that yet.
    pub(in crate::state) fn grant(&mut self, functions: &mut Functions, id: SandboxId, data_plane: DataPlaneKey) {
        let Some(sandbox) = self.known_mut(id) else { return };
        debug_assert!(sandbox.is_free(), "only a free sandbox is granted");
        let slots = sandbox.concurrency;
        self.set_grant(functions, id, Grant { data_plane, slots, acknowledged: false });
    }

    /// Records an existing grant, as claimed by its holder.
    pub(in crate::state) fn adopt_grant(
        &mut self,
        functions: &mut Functions,
        id: SandboxId,
        data_plane: DataPlaneKey,
        slots: u32,
    ) {
        self.set_grant(functions, id, Grant { data_plane, slots, acknowledged: true });
    }

    fn set_grant(&mut self, functions: &mut Functions, id: SandboxId, grant: Grant) {
        let Some(sandbox) = self.known_mut(id) else { return };
        debug_assert!(sandbox.grant.is_none(), "a sandbox is granted to one data plane at a time");
        sandbox.grant = Some(grant);
        let function = sandbox.function;
        self.totals.granted_slots += u64::from(grant.slots);
        if let Some(function) = functions.known_mut(function) {
            function.note_free(id, false);
            let load = function.load_mut(grant.data_plane);
            load.held += grant.slots;
            if !grant.acknowledged {
                load.under_way += grant.slots;
            }
        }
    }

    /// Records that the holder of a sandbox knows of its grant.
    pub(in crate::state) fn acknowledge_grant(&mut self, functions: &mut Functions, id: SandboxId) {
        let Some(sandbox) = self.known_mut(id) else { return };
        let function = sandbox.function;
        let Some(grant) = sandbox.grant.as_mut().filter(|grant| !grant.acknowledged) else { return };
        grant.acknowledged = true;
        let Grant { data_plane, slots, .. } = *grant;
        if let Some(function) = functions.known_mut(function) {
            function.load_mut(data_plane).under_way -= slots;
        }
    }

    /// Ends the grant of a sandbox, if it has one.
    pub(in crate::state) fn end_grant(&mut self, functions: &mut Functions, id: SandboxId) {
        let Some(sandbox) = self.known_mut(id) else { return };
        let Some(grant) = sandbox.grant.take() else { return };
        let (function, is_free) = (sandbox.function, sandbox.is_free());
        self.totals.granted_slots -= u64::from(grant.slots);
        if let Some(function) = functions.known_mut(function) {
            function.note_free(id, is_free);
            let load = function.load_mut(grant.data_plane);
            load.held -= grant.slots;
            // Nothing can run in slots that it does not hold, though it may report this only with its next sample.
            load.running = load.running.min(load.held);
            if !grant.acknowledged {
                load.under_way -= grant.slots;
            }
        }
    }

    pub(super) fn insert(&mut self, id: SandboxId, sandbox: Sandbox) {
        self.totals.add(sandbox.state);
        let before = self.by_id.insert(id, sandbox);
        debug_assert!(before.is_none(), "an id names one sandbox");
    }

    /// Changes the state of a sandbox; the state before, and the sandbox.
    pub(super) fn set_state(&mut self, id: SandboxId, state: SandboxState) -> Option<(SandboxState, &Sandbox)> {
        let sandbox = super::expect_known(self.by_id.get_mut(&id), "sandbox", id)?;
        let before = std::mem::replace(&mut sandbox.state, state);
        self.totals.subtract(before);
        self.totals.add(state);
        Some((before, sandbox))
    }

    pub(super) fn remove(&mut self, id: SandboxId) -> Option<Sandbox> {
        let sandbox = super::expect_known(self.by_id.remove(&id), "sandbox", id)?;
        self.totals.subtract(sandbox.state);
        Some(sandbox)
    }
}
