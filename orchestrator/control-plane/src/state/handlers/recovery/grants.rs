//! Reconciliation of grants with the report of a data plane that connects.

use std::collections::BTreeSet;

use model::{EndpointState, FunctionId, SandboxId};

use super::{
    super::super::cluster::{DataPlaneKey, GrantCap, SandboxState},
    RecoveryHandler,
};
use crate::message::HeldGrant;

/// Time within which a data plane that has returned reports its running invocations. Until then its busy slots look
/// idle, and would be revoked first.
const RETURN_GRACE_US: u64 = 250_000;

impl RecoveryHandler<'_> {
    /// A data plane connects and reports its grants. A new process knows nothing of the invocations that its
    /// predecessor began, and these may still run: grants of the predecessor are ended, never granted again.
    pub(in crate::state::handlers) fn on_data_plane_reported(
        &mut self,
        key: DataPlaneKey,
        held: &[HeldGrant],
        is_new_process: bool,
    ) {
        if is_new_process {
            self.recovery.holder_lost(key);
        }
        let touched = self.reconcile_grants(key, held, is_new_process);
        self.recovery.data_plane_reported(key);
        self.resolve_unclaimed();
        self.finish();
        self.effects.touch_all(touched, self.context.now.us);
    }

    /// Compares the reported grants of a data plane with the tables. Returns the functions of grants that have ended,
    /// and those with free sandboxes. Functions of which it held something while it was away are decided on a little
    /// later.
    fn reconcile_grants(&mut self, key: DataPlaneKey, held: &[HeldGrant], is_new_process: bool) -> Vec<FunctionId> {
        let mut touched = self.end_lost_grants(key, held, is_new_process);
        touched.extend(self.reset_loads(key));
        if !self.recovery.expects_sandboxes() {
            let ids = held.iter().map(|grant| grant.sandbox);
            let unknown: Vec<_> = ids.filter(|id| self.tables.sandboxes.get(*id).is_none()).collect();
            self.give_up_unknown(&unknown);
        }
        for grant in held {
            self.confirm_grant(key, grant);
        }
        touched
    }

    /// Ends the grants that a data plane does not know of. Returns their functions.
    fn end_lost_grants(&mut self, key: DataPlaneKey, held: &[HeldGrant], is_new_process: bool) -> Vec<FunctionId> {
        let named: BTreeSet<SandboxId> = held.iter().map(|grant| grant.sandbox).collect();
        let granted = self.tables.sandboxes.iter().filter(|(_, sandbox)| sandbox.is_granted_to(key));
        let lost = granted.filter(|(id, _)| !named.contains(id));
        let lost: Vec<_> = lost.map(|(id, sandbox)| (id, sandbox.function())).collect();
        for (id, _) in &lost {
            if is_new_process {
                self.sandboxes().delete(*id);
            }
            self.grants().end_grant(*id);
            if self.tables.sandboxes.state_of(*id) == Some(SandboxState::Draining) {
                self.sandboxes().delete(*id);
            }
        }
        lost.into_iter().map(|(_, function)| function).collect()
    }

    /// Forgets the caps, the demand and the acknowledgements of a data plane, which belong to its old connection. Returns
    /// the functions with free sandboxes.
    fn reset_loads(&mut self, key: DataPlaneKey) -> Vec<FunctionId> {
        let (mut with_free, mut returned) = (Vec::new(), Vec::new());
        let decide_us = self.context.now.us + RETURN_GRACE_US;
        for (id, function) in self.tables.functions.iter_mut() {
            let mut has_returned = false;
            if function.load(key).is_some() {
                let load = function.load_mut(key);
                (load.waiting, load.running, load.cap) = (0, 0, GrantCap::default());
                has_returned = std::mem::take(&mut load.unresponsive) && load.held() > 0;
                if has_returned {
                    load.cap.not_before_us = decide_us;
                }
            }
            if has_returned {
                returned.push(id);
            } else if !function.free().is_empty() {
                with_free.push(id);
            }
        }
        returned.into_iter().for_each(|id| self.tables.decide_by(id, decide_us));
        with_free
    }

    /// A data plane claims slots of a sandbox: confirms the grant, records it, or replies that the sandbox does not
    /// exist.
    pub(super) fn confirm_grant(&mut self, key: DataPlaneKey, held: &HeldGrant) {
        let HeldGrant { sandbox: id, function, slots } = *held;
        let Some(sandbox) = self.tables.sandboxes.get(id) else {
            return self.claim_unknown(key, held);
        };
        let may_be_held = match sandbox.state() {
            SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed | SandboxState::Draining => true,
            SandboxState::Starting | SandboxState::Terminating => false,
        };
        let slots = slots.min(sandbox.concurrency);
        let is_away = self.data_planes.get(key).is_none_or(|known| known.session.is_none());
        let believed = self.tables.functions.known(sandbox.function());
        let can_count = believed.is_none_or(|function| function.may_hold(key, slots));
        match sandbox.grant() {
            Some(grant) if grant.data_plane != key => return self.grants().send_gone(key, function, id),
            Some(_) => {}
            None if slots == 0 || !may_be_held || sandbox.function() != function => {
                return self.grants().send_gone(key, function, id);
            }
            None if !can_count => {
                self.grants().send_gone(key, function, id);
                return self.sandboxes().delete(id);
            }
            None => {
                self.tables.sandboxes.adopt_grant(&mut self.tables.functions, id, key, slots);
                if let Some(function) = self.tables.functions.known_mut(function) {
                    // It may have left again since it claimed them.
                    function.load_mut(key).unresponsive |= is_away;
                }
                self.end_waiting_for_claims(id);
            }
        }
        let state = match self.tables.sandboxes.state_of(id) {
            Some(SandboxState::Draining) => EndpointState::Draining,
            Some(SandboxState::Suspended) => EndpointState::Suspended,
            Some(SandboxState::Ready) => EndpointState::Active,
            Some(SandboxState::Starting | SandboxState::Unclaimed | SandboxState::Terminating) | None => {
                EndpointState::Gone
            }
        };
        self.grants().send_endpoint(id, state);
    }

    /// A data plane holds slots of a sandbox that is not known: a worker that is still awaited may have it.
    fn claim_unknown(&mut self, key: DataPlaneKey, held: &HeldGrant) {
        if !self.recovery.expects_sandboxes() || !self.recovery.claim(key, *held) {
            self.grants().send_gone(key, held.function, held.sandbox);
        }
    }
}
