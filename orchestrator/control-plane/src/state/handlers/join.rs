//! Admission of peers: those of this cluster, under names that no other connected peer has, and not before everything
//! that the next control plane must know of them is durable.

use std::collections::BTreeSet;

use model::Epoch;

use super::super::{
    Map, Origin, SessionId,
    cluster::{DataPlanes, Nodes, Workers},
    context::Context,
    effects::{Effect, Effects},
};
use crate::{
    message::{DataPlaneHello, WorkerHello},
    registry::Knowledge,
    store::Command,
};

/// A peer that is to be admitted now.
pub(in crate::state) enum Admitted {
    Worker(SessionId, WorkerHello),
    DataPlane(SessionId, DataPlaneHello),
}

/// The first message of a peer.
enum Hello {
    Worker(WorkerHello),
    DataPlane(DataPlaneHello),
}

/// Peers that wait for commands to be durable. Their streams are not read before they are admitted.
#[derive(Default)]
pub(in crate::state) struct Joining(Map<SessionId, Pending>);

struct Pending {
    hello: Hello,
    /// Commands that are not durable yet.
    missing: usize,
}

/// Whether commands for a peer are durable already.
#[derive(Clone, Copy, PartialEq)]
enum Attempt {
    First,
    AfterCommands,
}

/// Reason why a peer is not admitted.
enum Refusal {
    /// Its ids, from another cluster or another history of this one, mean something else here.
    Stranger(String),
    /// Another process has its name, or that of one of its nodes.
    Name(String),
    Other(String),
}

impl Joining {
    pub(in crate::state) fn forget(&mut self, session: SessionId) {
        self.0.remove(&session);
    }
}

/// Decides whom to admit.
pub(in crate::state) struct JoinHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) nodes: &'a Nodes,
    pub(super) workers: &'a Workers,
    pub(super) data_planes: &'a DataPlanes,
    pub(super) joining: &'a mut Joining,
    pub(super) effects: &'a mut Effects,
}

impl JoinHandler<'_> {
    pub(in crate::state) fn worker_joined(&mut self, session: SessionId, hello: WorkerHello) -> Option<Admitted> {
        if let Err(refusal) = self.check_worker(session, &hello) {
            self.refuse(session, refusal);
            return None;
        }
        let nodes = hello.nodes.iter().filter(|node| !self.context.registry.has_node(node));
        let unknown: Vec<_> = nodes.map(|node| Command::PutNode { node: node.clone() }).collect();
        if unknown.is_empty() {
            return Some(Admitted::Worker(session, hello));
        }
        // Durable, so that after a restart its sandboxes are waited for before they are replaced.
        self.await_commands(session, Hello::Worker(hello), unknown);
        None
    }

    pub(in crate::state) fn data_plane_joined(
        &mut self,
        session: SessionId,
        hello: DataPlaneHello,
    ) -> Option<Admitted> {
        self.try_data_plane(session, hello, Attempt::First)
    }

    fn try_data_plane(&mut self, session: SessionId, hello: DataPlaneHello, attempt: Attempt) -> Option<Admitted> {
        if let Err(refusal) = self.check_data_plane(&hello) {
            self.refuse(session, refusal);
            return None;
        }
        let id = hello.id.clone();
        let stays = |key| self.data_planes.get(key).is_some_and(|known| !known.leaving);
        let is_known = self.data_planes.find(&id).is_some_and(stays);
        let replaces_process = is_known && hello.is_new_process() && attempt == Attempt::First;
        let mut commands = Vec::new();
        if replaces_process {
            // Durable, so that after a restart nothing is granted in which invocations of the process before may still run:
            // this one cannot claim it, and by then is no new process any more.
            commands.push(Command::RemoveDataPlane { id: id.clone() });
        }
        if replaces_process || !is_known {
            // Durable, so that after a restart its slots are waited for before they are granted again.
            commands.push(Command::PutDataPlane { id });
            self.await_commands(session, Hello::DataPlane(hello), commands);
            return None;
        }
        Some(Admitted::DataPlane(session, hello))
    }

    fn await_commands(&mut self, session: SessionId, hello: Hello, commands: Vec<Command>) {
        self.joining.0.insert(session, Pending { hello, missing: commands.len() });
        for command in commands {
            self.effects.append(command, Origin::Peer(session));
        }
    }

    /// A command that a peer waits for is durable and applied: with the last one the peer is admitted, if it would still be.
    pub(in crate::state) fn on_command_applied(&mut self, session: SessionId) -> Option<Admitted> {
        // It may have left since.
        let pending = self.joining.0.get_mut(&session)?;
        pending.missing -= 1;
        if pending.missing > 0 {
            return None;
        }
        match self.joining.0.remove(&session)?.hello {
            Hello::Worker(hello) => self.worker_joined(session, hello),
            Hello::DataPlane(hello) => self.try_data_plane(session, hello, Attempt::AfterCommands),
        }
    }

    fn refuse(&mut self, session: SessionId, refusal: Refusal) {
        self.effects.push(match refusal {
            Refusal::Stranger(reason) => Effect::RefuseStranger { session, ours: self.context.term.cluster, reason },
            Refusal::Name(reason) => Effect::RefuseName { session, reason },
            Refusal::Other(reason) => Effect::Close { session, reason },
        });
    }

    /// Ids of functions, revisions and sandboxes mean something else in every cluster, and in every copy of its log that
    /// was set back and went on from there.
    fn check_cluster(&self, cluster: Option<&str>, known: Knowledge) -> Result<(), Refusal> {
        let ours = self.context.term.cluster.to_string();
        match cluster {
            Some(cluster) if cluster != ours => Err(Refusal::Stranger(format!(
                "it belongs to cluster {cluster}, this control plane to {ours}: if the other cluster is no more, start it \
                 anew"
            ))),
            None if known.epoch > Epoch::default() => Err(Refusal::Other(format!(
                "it has seen epoch {} and does not say of which cluster: start it anew",
                known.epoch
            ))),
            _ => self.context.registry.epochs().check(known).map_err(|unknown| Refusal::Stranger(unknown.to_string())),
        }
    }

    fn check_worker(&self, session: SessionId, hello: &WorkerHello) -> Result<(), Refusal> {
        self.check_cluster(hello.cluster.as_deref(), hello.known)?;
        let name = &hello.name;
        let old = self.workers.by_name(name).filter(|(old, _)| *old != session);
        // Also if that process is unresponsive: it may continue. If it does not, its stream is closed soon enough.
        if old.is_some_and(|(_, worker)| !is_same_process(worker.instance, hello.instance)) {
            return Err(name_conflict("worker", name));
        }
        let mut names = BTreeSet::new();
        for node in hello.nodes.iter().map(|node| &*node.name.0) {
            if !names.insert(node) {
                return Err(Refusal::Other(format!("it announces node {node:?} twice")));
            }
            let Some(known) = self.nodes.find(node).map(|key| self.nodes.get(key)) else { continue };
            if known.session().is_some() && known.worker() != name {
                let owner = known.worker();
                let reason = format!("its node {node:?} is served by worker {owner:?}, which is connected");
                return Err(Refusal::Name(reason));
            }
        }
        Ok(())
    }

    fn check_data_plane(&self, hello: &DataPlaneHello) -> Result<(), Refusal> {
        self.check_cluster(hello.cluster.as_deref(), hello.known)?;
        let known = self.data_planes.find(&hello.id).and_then(|key| self.data_planes.get(key));
        let is_taken =
            known.is_some_and(|known| known.session.is_some() && !is_same_process(known.instance, hello.instance));
        if is_taken { Err(name_conflict("data plane", &hello.id.0)) } else { Ok(()) }
    }
}

/// Returns true if a peer that connects is the process that is connected, whose old stream is broken then. A peer
/// without a process number is never taken for another.
fn is_same_process(known: Option<u64>, instance: Option<u64>) -> bool {
    known.is_some() && known == instance
}

fn name_conflict(part: &str, name: &str) -> Refusal {
    Refusal::Name(format!(
        "another {part} of the name {name:?} is connected: names are unique in a cluster, set `name` (--name)"
    ))
}
