//! The table of this worker's sandboxes with the state of each, and the effects of everything that happens to them.
//!
//! Plain values: no clock, no I/O. Methods return the effects that the owner carries out, in order.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use api::Revisions;
use model::{ClusterId, Epoch, FunctionName, Revision, SandboxId};
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    events::{EndReason, Event, Ready},
    hello::{HeldSandbox, HeldState},
    messages::{Commands, CreateCommand, Leader, SandboxSpec},
    runtime::{CreatedSandbox, CreationFailure, Progress},
};

/// The table of sandboxes, and the leader that may command them.
#[derive(Debug)]
pub(crate) struct State {
    /// The number of this worker's nodes; commands name them by index.
    nodes: usize,
    /// The newest leader that was obeyed, also while no stream is open: sandbox ids have their meaning in its cluster
    /// only.
    leader: Option<Leader>,
    /// As in the newest [`Commands::known`].
    known: u64,
    /// The leader has welcomed this worker on the open stream.
    welcomed: bool,
    /// Received on the open stream.
    revisions: Revisions<Arc<SandboxSpec>>,
    /// Ordered, so that hellos and lists are reproducible.
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    /// The worker shuts down: it creates nothing any more.
    stopping: bool,
}

#[derive(Debug)]
struct Sandbox {
    node: usize,
    spec: Arc<SandboxSpec>,
    received: Instant,
    state: SandboxState,
    /// Its creation waits for others.
    queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SandboxState {
    Creating,
    /// No longer wanted; the runtime has not abandoned the creation yet.
    Cancelling(EndReason),
    Ready(SocketAddr),
    /// The runtime ends it.
    Terminating(EndReason),
}

/// An action that the owner has to carry out.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Start a creation; [`State::on_created`] gets its result.
    Create { sandbox: SandboxId, node: usize, spec: Arc<SandboxSpec> },
    /// Cancel a creation; [`State::on_created`] still gets its result.
    Cancel { sandbox: SandboxId },
    /// End a ready sandbox, then call [`State::on_deleted`].
    Delete { sandbox: SandboxId },
    /// Send an event to the control plane.
    Report { sandbox: SandboxId, event: Event },
}

/// A welcome came from a control plane that this worker must not obey.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum LeaderMismatch {
    /// A newer leader has replaced it.
    #[error("epoch {theirs} is over: this worker obeys epoch {ours}")]
    Older { theirs: Epoch, ours: Epoch },
    /// Its command log is a copy of the obeyed one that has diverged.
    #[error(
        "its epoch {epoch} is not the epoch of that number that this worker obeys: restart the worker to end its sandboxes"
    )]
    OtherHistory { epoch: Epoch },
    /// It belongs to another cluster, which does not know this worker's sandboxes.
    #[error(
        "it belongs to {}, this worker to {}: restart the worker if its cluster no longer exists",
        name_of(*.theirs), name_of(*.ours)
    )]
    OtherCluster { theirs: Option<ClusterId>, ours: Option<ClusterId> },
}

fn name_of(cluster: Option<ClusterId>) -> String {
    cluster.map_or_else(|| "a cluster without an id".to_owned(), |cluster| format!("cluster {cluster}"))
}

/// A sandbox as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SandboxSummary {
    pub(crate) sandbox: SandboxId,
    pub(crate) function: FunctionName,
    pub(crate) revision: Revision,
    pub(crate) node: usize,
    pub(crate) state: &'static str,
    pub(crate) address: Option<SocketAddr>,
}

/// The values of [`SandboxSummary::state`].
pub(crate) const STATES: [&str; 3] = ["creating", "ready", "ending"];

impl State {
    /// A worker with `nodes` nodes, no sandboxes and no leader.
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            nodes,
            leader: None,
            known: 0,
            welcomed: false,
            revisions: Revisions::of_receiver(),
            sandboxes: BTreeMap::new(),
            stopping: false,
        }
    }

    /// A new stream opens: drops everything received on the last one, and returns the state for the hello. Sandboxes
    /// that are being ended are left out, so that no control plane adopts them.
    pub(crate) fn on_stream_opening(&mut self) -> HeldState {
        self.on_stream_closed();
        let held = self.sandboxes.iter().filter_map(|(id, sandbox)| {
            let address = match sandbox.state {
                SandboxState::Creating => None,
                SandboxState::Ready(address) => Some(address),
                SandboxState::Cancelling(_) | SandboxState::Terminating(_) => return None,
            };
            let spec = Arc::clone(&sandbox.spec);
            Some(HeldSandbox { sandbox: *id, node: sandbox.node, spec, address, queued: sandbox.queued })
        });
        HeldState { leader: self.leader, known: self.known, sandboxes: held.collect() }
    }

    /// The control plane at the other end of the stream has identified itself.
    ///
    /// # Errors
    /// If this worker must not obey it.
    pub(crate) fn on_welcome(&mut self, theirs: Leader) -> Result<(), LeaderMismatch> {
        if let Some(ours) = self.leader {
            // The cluster first, because epochs of different clusters cannot be compared.
            if ours.cluster != theirs.cluster {
                return Err(LeaderMismatch::OtherCluster { theirs: theirs.cluster, ours: ours.cluster });
            }
            if theirs.epoch < ours.epoch {
                return Err(LeaderMismatch::Older { theirs: theirs.epoch, ours: ours.epoch });
            }
            if theirs.epoch == ours.epoch && theirs.nonce != ours.nonce {
                return Err(LeaderMismatch::OtherHistory { epoch: theirs.epoch });
            }
        }
        self.leader = Some(theirs);
        self.welcomed = true;
        Ok(())
    }

    /// A control plane of another cluster, or of a diverged history, refused this worker. Without sandboxes of its own,
    /// whose ids that cluster could misread, the worker may join it.
    pub(crate) fn on_other_cluster(&mut self) {
        if self.sandboxes.is_empty() {
            (self.leader, self.known) = (None, 0);
        }
    }

    /// The stream has closed. Sandboxes go on.
    pub(crate) fn on_stream_closed(&mut self) {
        self.welcomed = false;
        self.revisions = Revisions::of_receiver();
    }

    /// Returns true if a leader commands this worker over an open stream.
    pub(crate) fn has_leader(&self) -> bool {
        self.welcomed
    }

    /// Executes a batch that was read at `received`. A batch without a welcome before it is ignored.
    pub(crate) fn on_commands(&mut self, batch: Commands, received: Instant) -> Vec<Effect> {
        let Some(leader) = self.leader.filter(|_| self.welcomed) else { return Vec::new() };
        self.known = batch.known.unwrap_or(self.known);
        // All revisions of a message are valid within it, even if it has more of them than are kept for later messages.
        let named: HashMap<Revision, &Arc<SandboxSpec>> =
            batch.revisions.iter().map(|spec| (spec.revision, spec)).collect();
        let mut effects = Vec::with_capacity(batch.create.len() + batch.delete.len());
        for create in &batch.create {
            let kept = || self.revisions.get(create.revision);
            let spec = named.get(&create.revision).copied().or_else(kept).cloned();
            effects.extend(self.create(*create, spec, leader.epoch, received));
        }
        for spec in batch.revisions {
            self.revisions.insert(spec.revision, spec);
        }
        for sandbox in batch.delete {
            effects.extend(self.delete(sandbox, EndReason::Deleted));
        }
        effects
    }

    fn create(
        &mut self,
        create: CreateCommand,
        spec: Option<Arc<SandboxSpec>>,
        epoch: Epoch,
        received: Instant,
    ) -> Option<Effect> {
        let CreateCommand { sandbox, node, revision } = create;
        if self.sandboxes.contains_key(&sandbox) {
            // A repeated command: the event of the first one was sent or will be.
            return None;
        }
        // Never permanent: another worker, or this one on a new stream, may create it.
        let refuse =
            |message: String| Some(Effect::Report { sandbox, event: Event::Failed { message, permanent: false } });
        if self.stopping {
            return refuse("the worker is shutting down".to_owned());
        }
        if sandbox.epoch() != epoch {
            return refuse(format!("a command of epoch {} came in epoch {epoch}", sandbox.epoch()));
        }
        if node >= self.nodes {
            return refuse(format!("there is no node {node} here, only {}", self.nodes));
        }
        let Some(spec) = spec else {
            return refuse(format!("revision {} was not sent on this stream", revision.0));
        };
        let entry = Sandbox { node, spec: Arc::clone(&spec), received, state: SandboxState::Creating, queued: false };
        self.sandboxes.insert(sandbox, entry);
        Some(Effect::Create { sandbox, node, spec })
    }

    fn delete(&mut self, sandbox: SandboxId, reason: EndReason) -> Option<Effect> {
        let Some(entry) = self.sandboxes.get_mut(&sandbox) else {
            // The control plane keeps the reservation until it knows that nothing is left.
            return Some(ended(sandbox, EndReason::Deleted, String::new()));
        };
        match entry.state {
            SandboxState::Creating => {
                let reason = if reason == EndReason::Deleted { EndReason::Cancelled } else { reason };
                entry.state = SandboxState::Cancelling(reason);
                Some(Effect::Cancel { sandbox })
            }
            SandboxState::Ready(_) => {
                entry.state = SandboxState::Terminating(reason);
                Some(Effect::Delete { sandbox })
            }
            // Its end is reported once, when the runtime is done.
            SandboxState::Cancelling(_) | SandboxState::Terminating(_) => None,
        }
    }

    /// A creation waits for others, or no longer does. Its result may have arrived before this.
    pub(crate) fn on_progress(&mut self, sandbox: SandboxId, progress: Progress) -> Option<Effect> {
        let entry = self.sandboxes.get_mut(&sandbox).filter(|entry| entry.state == SandboxState::Creating)?;
        let event = match progress {
            Progress::Queued(cause) => Event::Queued(cause),
            Progress::Started => Event::Started,
        };
        entry.queued = progress != Progress::Started;
        Some(Effect::Report { sandbox, event })
    }

    /// A creation has succeeded or failed.
    pub(crate) fn on_created(
        &mut self,
        sandbox: SandboxId,
        result: Result<&CreatedSandbox, CreationFailure>,
    ) -> Option<Effect> {
        let entry = self.sandboxes.get_mut(&sandbox)?;
        match (entry.state, result) {
            (SandboxState::Creating, Ok(created)) => {
                (entry.state, entry.queued) = (SandboxState::Ready(created.address), false);
                let ready = Ready {
                    address: created.address,
                    received: entry.received,
                    create: created.create,
                    ready: created.ready,
                    steps: created.steps.clone(),
                };
                Some(Effect::Report { sandbox, event: Event::Ready(ready) })
            }
            // The creation was complete before the cancellation reached it.
            (SandboxState::Cancelling(reason), Ok(_)) => {
                entry.state = SandboxState::Terminating(reason);
                Some(Effect::Delete { sandbox })
            }
            (SandboxState::Creating, Err(CreationFailure { message, permanent })) => {
                self.sandboxes.remove(&sandbox);
                Some(Effect::Report { sandbox, event: Event::Failed { message, permanent } })
            }
            (SandboxState::Cancelling(reason), Err(_)) => {
                self.sandboxes.remove(&sandbox);
                Some(ended(sandbox, reason, String::new()))
            }
            (SandboxState::Ready(_) | SandboxState::Terminating(_), _) => {
                debug_assert!(false, "{sandbox} was created twice");
                None
            }
        }
    }

    /// The runtime has ended a sandbox as commanded.
    pub(crate) fn on_deleted(&mut self, sandbox: SandboxId) -> Option<Effect> {
        let SandboxState::Terminating(reason) = self.sandboxes.get(&sandbox)?.state else { return None };
        self.sandboxes.remove(&sandbox);
        Some(ended(sandbox, reason, String::new()))
    }

    /// A sandbox has ended by itself and nothing of it is left. One that was being ended anyway is reported by
    /// [`on_deleted`](Self::on_deleted).
    pub(crate) fn on_exited(&mut self, sandbox: SandboxId, message: String) -> Option<Effect> {
        let SandboxState::Ready(_) = self.sandboxes.get(&sandbox)?.state else { return None };
        self.sandboxes.remove(&sandbox);
        Some(ended(sandbox, EndReason::Exited, message))
    }

    /// The worker shuts down: ends all sandboxes and refuses new ones.
    pub(crate) fn stop(&mut self) -> Vec<Effect> {
        self.stopping = true;
        self.end_all()
    }

    /// Ends all sandboxes.
    pub(crate) fn end_all(&mut self) -> Vec<Effect> {
        let all: Vec<SandboxId> = self.sandboxes.keys().copied().collect();
        all.into_iter().filter_map(|sandbox| self.delete(sandbox, EndReason::Stopped)).collect()
    }

    /// The time at which the command to create a sandbox was read; `None` if the sandbox is not held.
    pub(crate) fn received(&self, sandbox: SandboxId) -> Option<Instant> {
        self.sandboxes.get(&sandbox).map(|entry| entry.received)
    }

    /// Returns true if the worker shuts down.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Returns true if there is no sandbox.
    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }

    /// All sandboxes as the admin API shows them.
    pub(crate) fn summaries(&self) -> Vec<SandboxSummary> {
        let summarize = |(id, sandbox): (&SandboxId, &Sandbox)| {
            let (state, address) = match sandbox.state {
                SandboxState::Creating => ("creating", None),
                SandboxState::Ready(address) => ("ready", Some(address)),
                SandboxState::Cancelling(_) | SandboxState::Terminating(_) => ("ending", None),
            };
            let (function, revision) = (sandbox.spec.name.clone(), sandbox.spec.revision);
            SandboxSummary { sandbox: *id, function, revision, node: sandbox.node, state, address }
        };
        self.sandboxes.iter().map(summarize).collect()
    }
}

fn ended(sandbox: SandboxId, reason: EndReason, message: String) -> Effect {
    Effect::Report { sandbox, event: Event::Ended { reason, message } }
}

#[cfg(test)]
mod tests;
