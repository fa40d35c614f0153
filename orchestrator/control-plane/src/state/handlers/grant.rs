//! Grants of sandboxes to data planes.
//!
//! All slots of a sandbox are granted to one data plane at a time, so that their sum never exceeds its concurrency. A
//! slot is free again only after its holder has acknowledged that.

use model::{EndpointState, FunctionId, MAX_CONCURRENCY, SandboxId};

use super::super::{
    Now,
    cluster::{DataPlaneKey, DataPlanes, FunctionLoad, Functions, Sandboxes, Tables},
    context::Context,
    effects::{DataPlaneChange, Effects, Endpoint, EndpointChange},
};

/// Grants sandboxes to data planes, and revokes grants.
pub(in crate::state) struct GrantHandler<'a> {
    pub(super) now: Now,
    pub(super) functions: &'a mut Functions,
    pub(super) sandboxes: &'a mut Sandboxes,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) effects: &'a mut Effects,
}

impl<'a> GrantHandler<'a> {
    pub(super) fn of(
        context: Context<'a>,
        tables: &'a mut Tables,
        data_planes: &'a mut DataPlanes,
        effects: &'a mut Effects,
    ) -> Self {
        let Tables { functions, sandboxes, .. } = tables;
        Self { now: context.now, functions, sandboxes, data_planes, effects }
    }
}

impl GrantHandler<'_> {
    /// Grants free sandboxes of a function to the data planes where invocations wait.
    pub(super) fn grant_to_waiting(&mut self, id: FunctionId) {
        while let Some(sandbox) = self.first_free(id)
            && let Some(holder) = self.neediest(id)
        {
            self.grant(sandbox, holder);
        }
    }

    /// Grants the remaining free sandboxes of a function, so that the next invocation finds them.
    pub(super) fn grant_in_advance(&mut self, id: FunctionId) {
        while let Some(sandbox) = self.first_free(id)
            && let Some(holder) = self.standby(id)
        {
            self.grant(sandbox, holder);
        }
    }

    fn first_free(&self, id: FunctionId) -> Option<SandboxId> {
        self.functions.known(id)?.free().first().copied()
    }

    /// The connected data plane with the most waiting invocations of a function that no grant on its way will serve.
    fn neediest(&self, id: FunctionId) -> Option<DataPlaneKey> {
        let function = self.functions.known(id)?;
        let unmet = |key| function.load(key).map_or(0, FunctionLoad::unmet);
        self.data_planes
            .connected()
            .filter(|(key, ..)| function.may_hold(*key, MAX_CONCURRENCY))
            .map(|(key, _, _)| (unmet(key), key))
            .filter(|(unmet, _)| *unmet > 0)
            .max()
            .map(|(_, key)| key)
    }

    /// The connected data plane that holds the fewest slots of a function; it gets sandboxes that no invocation waits
    /// for.
    fn standby(&self, id: FunctionId) -> Option<DataPlaneKey> {
        let function = self.functions.known(id)?;
        let held = |key| function.load(key).map_or(0, |load| load.held());
        let connected = self.data_planes.connected().filter(|(key, ..)| function.may_hold(*key, MAX_CONCURRENCY));
        connected.map(|(key, _, _)| (held(key), key)).min().map(|(_, key)| key)
    }

    fn grant(&mut self, id: SandboxId, holder: DataPlaneKey) {
        self.sandboxes.grant(self.functions, id, holder);
        if let Some(function_id) = self.sandboxes.function_of(id) {
            let load = self.functions.known(function_id).and_then(|function| function.load(holder));
            // Under a cap the data plane would return the new grant at once.
            if load.is_some_and(|load| load.cap.slots.is_some_and(|slots| load.held() > slots)) {
                self.lift_cap(function_id, holder);
            }
        }
        self.send_endpoint(id, EndpointState::Active);
    }

    /// Sends the newest state of a sandbox to its holder, if it has one.
    pub(in crate::state) fn send_endpoint(&mut self, id: SandboxId, state: EndpointState) {
        let version = self.data_planes.next_version();
        let Some(sandbox) = self.sandboxes.known_mut(id) else { return };
        let (Some(grant), Some(address)) = (sandbox.grant(), sandbox.address) else { return };
        sandbox.version = Some(version);
        let endpoint =
            Endpoint { revision: sandbox.revision, address, slots: grant.slots, state, ready_us: sandbox.ready_us };
        let change = EndpointChange { sandbox: id, function: sandbox.function(), version, endpoint: Some(endpoint) };
        self.effects.send_to_data_plane(self.data_planes, grant.data_plane, DataPlaneChange::Endpoint(change));
    }

    /// Tells a data plane that a sandbox that it claims to hold does not exist.
    pub(super) fn send_gone(&mut self, key: DataPlaneKey, function: FunctionId, sandbox: SandboxId) {
        let version = self.data_planes.next_version();
        let change = EndpointChange { sandbox, function, version, endpoint: None };
        self.effects.send_to_data_plane(self.data_planes, key, DataPlaneChange::Endpoint(change));
    }

    /// Ends the grant of a sandbox that does not exist any more, without waiting for its holder.
    pub(super) fn withdraw(&mut self, id: SandboxId) {
        self.send_endpoint(id, EndpointState::Gone);
        self.end_grant(id);
    }

    pub(super) fn end_grant(&mut self, id: SandboxId) {
        self.sandboxes.end_grant(self.functions, id);
    }
}
