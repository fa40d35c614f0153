//! Sandboxes that a worker has and this control plane did not command: some are taken over, the others end.

use model::SandboxId;
use policy::placement::NodeKey;

use super::{
    super::super::{
        SessionId,
        cluster::{Found, Function, Node, Sandbox, SandboxState, SandboxTimer},
        effects::WorkerChange,
    },
    RecoveryHandler,
};
use crate::{
    message::{HeldSandbox, HeldState, WorkerHello},
    registry::WHY,
};

impl RecoveryHandler<'_> {
    /// Takes over a sandbox if its function still needs it, or lets invocations that may run in it finish; ends it
    /// otherwise.
    pub(super) fn adopt(&mut self, session: SessionId, node: NodeKey, held: &HeldSandbox) {
        let now = self.context.now;
        let id = held.id;
        if !self.may_exist(node, id) {
            let name = &self.tables.nodes.get(node).name;
            tracing::warn!(sandbox = %id, node = %name, "a worker reports a sandbox that it was never commanded to create");
            return self.effects.send_to_worker(session, WorkerChange::Delete(id));
        }
        self.tables.nodes.get_mut(node).left_behind.remove(&id);
        let was_given_up = self.tables.nodes.get(node).given_up.contains(&id) || self.recovery.was_given_up(id);
        let state = self.state_of_found(node, held);
        let (Some(state), HeldState::Ready(address), false) = (state, held.state, was_given_up) else {
            return self.effects.send_to_worker(session, WorkerChange::Delete(id));
        };
        if state == SandboxState::Draining {
            self.remember_function(held);
            let deadline_us = now.after(self.context.settings.health.drain_deadline);
            self.tables.timers.watch(deadline_us, id, SandboxTimer::Drain);
        }
        let found = Found {
            function: held.function,
            revision: held.revision,
            node,
            resources: held.resources,
            concurrency: held.concurrency,
            address,
        };
        self.tables.add_found(id, Sandbox::found(found, state));
        if let Some((data_plane, grant)) = self.recovery.take_claim(id) {
            self.confirm_grant(data_plane, &grant);
        }
        self.effects.touch(held.function, now.us);
    }

    /// Returns true if a sandbox that is not in the tables may exist on a node: it was given up with the node, or is of
    /// an older epoch, of which the node has not reported yet. Any other id is a mistake of the worker, and may name
    /// another's sandbox.
    fn may_exist(&self, node: NodeKey, id: SandboxId) -> bool {
        let node = self.tables.nodes.get(node);
        let is_older = id.epoch() < self.context.term.epoch;
        node.left_behind.contains(&id) || node.given_up.contains(&id) || (node.has_older && is_older)
    }

    /// A data plane held sandboxes that are not known, and is told that they are gone. Its invocations may still run
    /// there if the nodes that have them return, so they are ended then. Few nodes, if any, may have such sandboxes.
    pub(in crate::state::handlers) fn give_up_unknown(&mut self, ids: &[SandboxId]) {
        if ids.is_empty() {
            return;
        }
        let may_have = |node: &Node| node.has_older || !node.left_behind.is_empty() || !node.given_up.is_empty();
        let nodes: Vec<_> = self.tables.nodes.iter().filter(|(_, node)| may_have(node)).map(|(key, _)| key).collect();
        for id in ids {
            if nodes.iter().any(|node| self.may_exist(*node, *id)) {
                self.recovery.give_up(*id);
            }
        }
    }

    /// The state of a sandbox that was found; `None` if nothing may run in it and its function does not need it.
    fn state_of_found(&self, node: NodeKey, held: &HeldSandbox) -> Option<SandboxState> {
        let id = held.id;
        let is_older = id.epoch() < self.context.term.epoch;
        let trusts_unclaimed = self.recovery.trusts_unclaimed() && !self.tables.nodes.get(node).holders_lost;
        let may_be_held = is_older && !trusts_unclaimed;
        let is_current = self.tables.functions.get(held.function).is_some_and(|function| {
            !function.removed
                && function.registered.revision == held.revision
                && !self.tables.nodes.get(node).is_drained()
        });
        if is_current {
            return Some(if may_be_held { SandboxState::Unclaimed } else { SandboxState::Ready });
        }
        // It was being drained when the control plane before this one ended, or would be by now.
        (may_be_held || is_older && self.recovery.is_claimed(id)).then_some(SandboxState::Draining)
    }

    /// A sandbox outlives its function, which is not in the log any more: it is known again until the last one ends.
    fn remember_function(&mut self, held: &HeldSandbox) {
        let id = held.function;
        if self.tables.functions.get(id).is_some() {
            return;
        }
        let policy = self.context.settings.autoscale;
        self.tables.functions.insert(Function::deregistered(id, held.revision, policy));
    }

    /// Notes that unclaimed sandboxes of a worker may be held by a data plane that cannot claim them: one that joined
    /// after the part of the worker's epoch that this log has, or one whose removal the worker does not know, so that
    /// the worker may not have received the deletion of its sandboxes.
    pub(super) fn note_lost_holders(&mut self, nodes: &[NodeKey], hello: &WorkerHello) {
        let end = self.context.registry.epochs().end(hello.known).unwrap_or(0);
        let removal = self.context.registry.data_plane_removal_index();
        if hello.data_plane_index < removal && !hello.sandboxes.is_empty() {
            let (worker, known) = (&hello.name, hello.data_plane_index);
            tracing::info!(
                worker,
                known,
                removal,
                "a data plane was removed while it was away: what nobody claims ends"
            );
            nodes.iter().for_each(|key| self.tables.nodes.get_mut(*key).holders_lost = true);
        }
        if hello.data_plane_index > end {
            let (worker, known) = (&hello.name, hello.data_plane_index);
            tracing::warn!(
                worker,
                known,
                ends_at = end,
                "a data plane joined or left which this log does not have: {WHY}"
            );
            nodes.iter().for_each(|key| self.tables.nodes.get_mut(*key).holders_lost = true);
        }
    }

    /// Deletes the sandboxes of a worker that are not of this log, and returns the others. A worker that was in an
    /// epoch of this log may have created sandboxes of registrations that were lost since, and may still have them in a
    /// later epoch because it missed the commands to delete them.
    pub(super) fn end_unknown(&mut self, session: SessionId, hello: &WorkerHello) -> Vec<HeldSandbox> {
        let known = hello.known;
        let end = self.context.registry.epochs().end(known).unwrap_or(0);
        let is_known = |held: &HeldSandbox| {
            let made_in = held.id.epoch();
            held.function.0.max(held.revision.0) <= end.min(self.context.registry.epochs().end_of(made_in))
                && made_in <= known.epoch
        };
        let (ours, unknown): (Vec<_>, Vec<_>) = hello.sandboxes.iter().copied().partition(is_known);
        if !unknown.is_empty() {
            let (worker, sandboxes, epoch) = (&hello.name, unknown.len(), known.epoch);
            tracing::warn!(
                worker,
                sandboxes,
                epoch = epoch.0,
                ends_at = end,
                "it holds sandboxes of commands that this log does not have: {WHY}"
            );
        }
        for held in unknown {
            self.effects.send_to_worker(session, WorkerChange::Delete(held.id));
        }
        ours
    }
}
