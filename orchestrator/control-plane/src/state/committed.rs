//! Commands that are durable: the registry has them first, and then the rest of the state follows what they changed.

use super::{ChangeOutcome, Effect, Now, Origin, PutOutcome, State, WorkerChange, node::NodeState, operator::Waiting};
use crate::{registry::Change, store::Command};

impl State {
    /// Commands are durable: they are applied, and who waits for one gets the response or is let in.
    pub(super) fn committed(&mut self, now: Now, first: u64, commands: Vec<(Command, Origin)>) {
        for ((command, origin), index) in commands.into_iter().zip(first..) {
            let change = self.registry.apply(index, command);
            let (put, changed) = (put_outcome(&change), change_outcome(&change));
            self.follow(now, change);
            match origin {
                Origin::State => {}
                Origin::Put(reply) => self.reply_when_known(now, Waiting::Put(reply, put)),
                Origin::Change(reply) => self.reply_when_known(now, Waiting::Change(reply, changed)),
                Origin::Peer(session) => self.command_applied(now, session),
            }
        }
        self.release_replies(now);
    }

    /// Does what follows from a change of the registry.
    fn follow(&mut self, now: Now, change: Change) {
        match change {
            Change::Begun | Change::FunctionUnchanged | Change::NotFound => {}
            Change::FunctionAdded(registered) => self.add_function(now, registered),
            Change::FunctionUpdated { registered, needs_new_sandboxes } => {
                self.update_function(now, registered, needs_new_sandboxes);
            }
            Change::FunctionRemoved(id) => self.remove_function(now, id),
            Change::NodePut(node) => self.cluster.nodes.put(&node),
            Change::NodeDrained { name, drained } => self.drain_node(now, &name.0, drained),
            Change::NodeRemoved(name) => self.remove_node(now, &name.0),
            Change::DataPlanePut(id) => {
                self.cluster.data_planes.put(&id, now.us);
                self.announce_data_plane();
            }
            Change::DataPlaneRemoved(id) => {
                if let Some(key) = self.cluster.data_planes.find(&id) {
                    self.remove_data_plane(now, key);
                }
            }
        }
    }

    /// Workers hear of a data plane before anything is granted to it: should the log be set back to before it, they know that
    /// somebody may use what they have.
    fn announce_data_plane(&mut self) {
        let index = self.registry.data_plane_index();
        for (session, _) in self.cluster.workers.iter() {
            self.effects.push(Effect::ToWorker { session, change: WorkerChange::Known(index) });
        }
    }

    fn drain_node(&mut self, now: Now, name: &str, drained: bool) {
        let Some(key) = self.cluster.nodes.find(name) else { return };
        self.cluster.nodes.get_mut(key).drained = drained;
        self.cluster.nodes.refresh_open(key);
        if drained {
            for id in self.cluster.sandboxes_on(key) {
                let function = self.cluster.sandboxes.get(&id).map(|sandbox| sandbox.function);
                self.drain_sandbox(now, id);
                if let Some(function) = function {
                    self.touch(function, now.us);
                }
            }
        } else {
            self.touch_room();
        }
    }

    fn remove_node(&mut self, now: Now, name: &str) {
        let Some(key) = self.cluster.nodes.find(name) else { return };
        if let Some(session) = self.cluster.nodes.get(key).session {
            // It came back after it was asked for: it is removed like the log says, and may announce itself anew.
            self.effect(Effect::Close { session, reason: format!("its node {name:?} was removed") });
            self.worker_left(now, session);
        }
        self.cluster.nodes.get_mut(key).state = NodeState::Dead;
        for id in self.cluster.sandboxes_on(key) {
            let function = self.cluster.sandboxes.get(&id).map(|sandbox| sandbox.function);
            self.forget_sandbox(id, "failed");
            if let Some(function) = function {
                self.touch(function, now.us);
            }
        }
        // Others of its worker may be full no longer.
        self.touch_room();
        self.recovery.nodes_reported(&[key]);
        for (_, function) in self.cluster.functions.iter_mut() {
            function.backoff.avoid.retain(|(avoided, _)| *avoided != key);
        }
        self.cluster.nodes.remove(key);
        self.settle_unclaimed(now);
    }
}

fn put_outcome(change: &Change) -> PutOutcome {
    match change {
        Change::FunctionAdded(_) => PutOutcome::Created,
        Change::FunctionUpdated { .. } => PutOutcome::Updated,
        _ => PutOutcome::Unchanged,
    }
}

fn change_outcome(change: &Change) -> ChangeOutcome {
    if *change == Change::NotFound { ChangeOutcome::NotFound } else { ChangeOutcome::Done }
}
