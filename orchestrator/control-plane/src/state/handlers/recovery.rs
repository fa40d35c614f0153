//! Reconciliation of reports with the tables, after a restart and whenever a peer returns.

mod adoption;
mod grants;
mod sandboxes;

use model::SandboxId;
use policy::placement::NodeKey;

use super::{
    super::{
        cluster::{DataPlanes, NodeState, Sandbox, SandboxState, Sandboxes, Tables},
        context::Context,
        effects::Effects,
        recovery::Recovery,
    },
    grant::GrantHandler,
    sandbox::SandboxHandler,
};
use crate::message::HeldGrant;

/// Brings the tables in line with what peers report.
pub(in crate::state) struct RecoveryHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recovery: &'a mut Recovery,
    pub(super) effects: &'a mut Effects,
}

impl RecoveryHandler<'_> {
    fn grants(&mut self) -> GrantHandler<'_> {
        GrantHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    /// Waits for the peers that know what is not durable.
    pub(in crate::state) fn begin(&mut self) {
        let Self { context: Context { now, settings, .. }, tables, data_planes, recovery, effects } = self;
        let nodes: Vec<_> = tables.nodes.iter().map(|(key, _)| key).collect();
        for key in &nodes {
            tables.nodes.set_state(*key, NodeState::Suspect);
            tables.nodes.get_mut(*key).has_older = true;
            tables.nodes.set_last_heartbeat(*key, now.us);
        }
        data_planes.iter_mut().for_each(|known| known.left_us = now.us);
        let until_us = now.after(settings.health.recovery_window);
        recovery.begin(until_us, nodes, data_planes.iter().map(|(key, _)| key));
        for (id, function) in tables.functions.iter_mut() {
            // One stable window, until the autoscaler has seen as much demand as before the restart.
            function.hold_until_us = now.after(function.registered.spec.scale.stable_window);
            effects.touch(id, now.us);
        }
        tables.timers.restart_health(*now);
    }

    /// Begins to decide, once every peer has reported or the window is over.
    pub(in crate::state) fn finish(&mut self) {
        let postponed = self.recovery.finish(self.context.now);
        self.effects.touch_all(postponed, self.context.now.us);
    }

    /// Nodes have reported, or are not waited for any more.
    pub(super) fn on_nodes_reported(&mut self, nodes: &[NodeKey]) {
        self.recovery.nodes_reported(nodes);
        self.resolve_unclaimed();
    }

    /// Resolves sandboxes and claims once every data plane and node has reported or was given up: unclaimed sandboxes
    /// are free, and claims of sandboxes that no worker has are void.
    pub(super) fn resolve_unclaimed(&mut self) {
        if !self.recovery.expects_sandboxes() {
            for (data_plane, HeldGrant { function, sandbox, .. }) in self.recovery.take_claims() {
                self.recovery.give_up(sandbox);
                self.grants().send_gone(data_plane, function, sandbox);
            }
        }
        if self.recovery.awaits_data_planes() {
            return;
        }
        for (id, node) in self.tables.sandboxes.unclaimed() {
            if self.recovery.has_lost_holders() || self.tables.nodes.get(node).holders_lost {
                self.sandboxes().delete(id);
                self.touch_function_of(id);
            } else {
                self.end_waiting_for_claims(id);
            }
        }
    }

    /// The holder of a sandbox that was found after a restart is known now, if there is one.
    fn end_waiting_for_claims(&mut self, id: SandboxId) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        match sandbox.state() {
            SandboxState::Unclaimed if self.tables.nodes.get(sandbox.node()).state() == NodeState::Ready => {
                self.tables.set_sandbox_state(id, SandboxState::Ready);
            }
            SandboxState::Unclaimed => self.tables.set_sandbox_state(id, SandboxState::Suspended),
            SandboxState::Draining if sandbox.grant().is_none() => self.sandboxes().delete(id),
            _ => {}
        }
        // While it was unclaimed it was no supply, and it may have been replaced.
        self.touch_function_of(id);
    }

    fn touch_function_of(&mut self, id: SandboxId) {
        if let Some(sandbox) = self.tables.sandboxes.known(id) {
            self.effects.touch(sandbox.function(), self.context.now.us);
        }
    }
}

impl Sandboxes {
    /// Sandboxes that a data plane may hold that has not reported, and their nodes, in the order of their ids.
    fn unclaimed(&self) -> Vec<(SandboxId, NodeKey)> {
        let may_be_held = |sandbox: &Sandbox| match sandbox.state() {
            SandboxState::Unclaimed => true,
            SandboxState::Draining => sandbox.grant().is_none(),
            _ => false,
        };
        let unclaimed = self.iter().filter(|(_, sandbox)| may_be_held(sandbox));
        let mut unclaimed: Vec<_> = unclaimed.map(|(id, sandbox)| (id, sandbox.node())).collect();
        unclaimed.sort_unstable();
        unclaimed
    }
}
