//! Which sandboxes this worker holds and in what phase, and what follows from each thing that happens.
//!
//! Plain values: no clock, no I/O. Methods return the effects that the owner carries out, in order.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use api::{
    Revisions,
    wire::{self, sandbox_ended::Reason},
};
use model::{Epoch, Revision, SandboxId};
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    events::{Event, Ready},
    runtime::{Failure, Made, Progress},
};

/// What a sandbox is made from.
pub(crate) type Spec = Arc<wire::RevisionSpec>;

/// The table of sandboxes.
#[derive(Debug)]
pub(crate) struct State {
    /// How many nodes this worker has; commands name them by index.
    nodes: u32,
    /// The cluster it belongs to, once it was welcomed: ids mean something else in every other one.
    cluster: Option<String>,
    /// The newest epoch obeyed.
    newest: Epoch,
    /// Its nonce.
    nonce: u64,
    /// The index of the command log that it was told last.
    known: u64,
    /// Whether a control plane of that epoch has welcomed this worker on the present stream.
    welcomed: bool,
    /// Told on the present stream.
    revisions: Revisions<Spec>,
    /// Ordered, so that hellos and lists come in a repeatable order.
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    /// Set when the worker ends: nothing is created any more.
    stopping: bool,
}

#[derive(Debug)]
struct Sandbox {
    node: u32,
    spec: Spec,
    received: Instant,
    phase: Phase,
    /// Its creation waits for others.
    queued: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Creating,
    /// No longer wanted; the runtime still works on it.
    Cancelling(Reason),
    Ready(SocketAddr),
    /// The runtime ends it, for this reason.
    Ending(Reason),
}

/// What the owner has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Begin a creation.
    Create { sandbox: SandboxId, node: u32, spec: Spec },
    /// Break a creation off; its end is still reported to [`State::created`].
    Cancel { sandbox: SandboxId },
    /// End a ready sandbox, then call [`State::deleted`].
    Delete { sandbox: SandboxId },
    /// Tell the control plane.
    Report { sandbox: SandboxId, event: Event },
}

/// Who a control plane is, as its welcome says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commander {
    /// Its cluster; empty where it does not know of clusters.
    pub(crate) cluster: String,
    pub(crate) epoch: Epoch,
    /// Tells the epoch from those of its number in copies of the command log.
    pub(crate) nonce: u64,
}

/// A welcome came from a control plane that this worker must not obey.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum WrongCommander {
    /// It has been replaced.
    #[error("epoch {theirs} is over: this worker obeys epoch {ours}")]
    Older { theirs: Epoch, ours: Epoch },
    /// Its command log is another copy of the one that this worker obeyed, and has gone on differently.
    #[error(
        "its epoch {epoch} is another one than that which this worker obeys: start the worker anew to end its sandboxes"
    )]
    OtherHistory { epoch: Epoch },
    /// It is of another cluster, which knows nothing of what this worker holds.
    #[error("it is of cluster {theirs:?}, this worker of {ours:?}: if that is no more, start the worker anew")]
    OtherCluster { theirs: String, ours: String },
}

/// What a worker says of itself on a new stream.
pub(crate) struct Opening {
    /// Empty before the first welcome.
    pub(crate) cluster: String,
    /// The newest epoch obeyed.
    pub(crate) epoch: Epoch,
    pub(crate) nonce: u64,
    pub(crate) known: u64,
    pub(crate) sandboxes: Vec<wire::HeldSandbox>,
}

/// A sandbox as shown to operators.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Shown {
    pub(crate) sandbox: SandboxId,
    pub(crate) function: String,
    pub(crate) revision: Revision,
    pub(crate) node: u32,
    pub(crate) state: &'static str,
    pub(crate) address: Option<SocketAddr>,
}

/// The states of [`Shown::state`].
pub(crate) const STATES: [&str; 3] = ["creating", "ready", "ending"];

impl State {
    pub(crate) fn new(nodes: u32) -> Self {
        Self {
            nodes,
            cluster: None,
            newest: Epoch::default(),
            nonce: 0,
            known: 0,
            welcomed: false,
            revisions: Revisions::heard(),
            sandboxes: BTreeMap::new(),
            stopping: false,
        }
    }

    /// A new stream opens: forgets what the last one told, and says whom it obeyed and what is held. What is being ended
    /// is not named, so that nobody adopts it.
    pub(crate) fn opening(&mut self) -> Opening {
        self.closed();
        let held = self.sandboxes.iter().filter_map(|(id, sandbox)| {
            let address = match sandbox.phase {
                Phase::Creating => String::new(),
                Phase::Ready(address) => address.to_string(),
                Phase::Cancelling(_) | Phase::Ending(_) => return None,
            };
            let spec = &sandbox.spec;
            Some(wire::HeldSandbox {
                sandbox: id.to_wire(),
                node: sandbox.node,
                function: spec.function,
                revision: spec.revision,
                address,
                cpu_millicores: spec.cpu_millicores,
                memory_mib: spec.memory_mib,
                concurrency: spec.concurrency,
                queued: sandbox.queued,
            })
        });
        let sandboxes = held.collect();
        let cluster = self.cluster.clone().unwrap_or_default();
        Opening { cluster, epoch: self.newest, nonce: self.nonce, known: self.known, sandboxes }
    }

    /// The control plane at the other end of the stream says who it is.
    pub(crate) fn welcome(&mut self, commander: Commander) -> Result<(), WrongCommander> {
        let Commander { cluster: theirs, epoch, nonce } = commander;
        if let Some(ours) = self.cluster.clone().filter(|ours| *ours != theirs) {
            return Err(WrongCommander::OtherCluster { theirs, ours });
        }
        if epoch < self.newest {
            return Err(WrongCommander::Older { theirs: epoch, ours: self.newest });
        }
        if epoch == self.newest && nonce != self.nonce {
            return Err(WrongCommander::OtherHistory { epoch });
        }
        self.cluster = Some(theirs);
        (self.newest, self.nonce) = (epoch, nonce);
        self.welcomed = true;
        Ok(())
    }

    /// A control plane of another cluster, or of another history of it, refused this worker. With nothing of its own left
    /// to be taken for something else, it may belong to that one.
    pub(crate) fn other_cluster(&mut self) {
        if self.sandboxes.is_empty() {
            (self.cluster, self.newest, self.nonce, self.known) = (None, Epoch::default(), 0, 0);
        }
    }

    /// The stream is no more. Sandboxes go on.
    pub(crate) fn closed(&mut self) {
        self.welcomed = false;
        self.revisions = Revisions::heard();
    }

    /// Whether a control plane commands this worker at present.
    pub(crate) fn is_commanded(&self) -> bool {
        self.welcomed
    }

    /// Obeys a batch that was read at `received`. One that comes without a welcome is ignored.
    pub(crate) fn command(&mut self, batch: wire::ToWorker, received: Instant) -> Vec<Effect> {
        if !self.welcomed {
            return Vec::new();
        }
        self.known = batch.known.unwrap_or(self.known);
        // Of one message all are known, however many more than what is remembered for later ones.
        let told = batch.functions.into_iter().map(|spec| (Revision(spec.revision), Arc::new(spec)));
        let told: HashMap<Revision, Spec> = told.collect();
        let mut effects = Vec::with_capacity(batch.create.len() + batch.delete.len());
        for create in &batch.create {
            let revision = Revision(create.revision);
            let spec = told.get(&revision).or_else(|| self.revisions.get(revision)).cloned();
            effects.extend(self.create(create, spec, received));
        }
        for (revision, spec) in told {
            self.revisions.insert(revision, spec);
        }
        for delete in batch.delete {
            effects.extend(self.delete(SandboxId::from_wire(delete), Reason::Deleted));
        }
        effects
    }

    fn create(&mut self, create: &wire::CreateSandbox, spec: Option<Spec>, received: Instant) -> Option<Effect> {
        let sandbox = SandboxId::from_wire(create.sandbox);
        if self.sandboxes.contains_key(&sandbox) {
            // A repeated command. Its outcome was reported, or will be.
            return None;
        }
        let refuse =
            |message: String| Some(Effect::Report { sandbox, event: Event::Failed { message, permanent: false } });
        if self.stopping {
            return refuse("the worker is shutting down".to_owned());
        }
        if sandbox.epoch() != self.newest {
            let (theirs, ours) = (sandbox.epoch(), self.newest);
            return refuse(format!("a command of epoch {theirs} came in epoch {ours}"));
        }
        if create.node >= self.nodes {
            return refuse(format!("there is no node {} here, only {}", create.node, self.nodes));
        }
        let Some(spec) = spec else {
            return refuse(format!("revision {} was never told", create.revision));
        };
        let node = create.node;
        let entry = Sandbox { node, spec: Arc::clone(&spec), received, phase: Phase::Creating, queued: false };
        self.sandboxes.insert(sandbox, entry);
        Some(Effect::Create { sandbox, node, spec })
    }

    fn delete(&mut self, sandbox: SandboxId, reason: Reason) -> Option<Effect> {
        let Some(entry) = self.sandboxes.get_mut(&sandbox) else {
            return Some(ended(sandbox, Reason::Deleted, String::new()));
        };
        match entry.phase {
            Phase::Creating => {
                let reason = if reason == Reason::Deleted { Reason::Cancelled } else { reason };
                entry.phase = Phase::Cancelling(reason);
                Some(Effect::Cancel { sandbox })
            }
            Phase::Ready(_) => {
                entry.phase = Phase::Ending(reason);
                Some(Effect::Delete { sandbox })
            }
            Phase::Cancelling(_) | Phase::Ending(_) => None,
        }
    }

    /// A creation waits for others, or does not any more. That it is over may be known before.
    pub(crate) fn progressed(&mut self, sandbox: SandboxId, progress: Progress) -> Option<Effect> {
        let entry = self.sandboxes.get_mut(&sandbox).filter(|entry| entry.phase == Phase::Creating)?;
        let event = match progress {
            Progress::Queued(cause) => Event::Queued(cause),
            Progress::Begun => Event::Begun,
        };
        entry.queued = progress != Progress::Begun;
        Some(Effect::Report { sandbox, event })
    }

    /// A creation is over.
    pub(crate) fn created(&mut self, sandbox: SandboxId, result: Result<&Made, Failure>) -> Option<Effect> {
        let entry = self.sandboxes.get_mut(&sandbox)?;
        match (entry.phase.clone(), result) {
            (Phase::Creating, Ok(made)) => {
                (entry.phase, entry.queued) = (Phase::Ready(made.address), false);
                let ready = Ready {
                    address: made.address,
                    received: entry.received,
                    create: made.create,
                    ready: made.ready,
                    steps: made.steps.clone(),
                };
                Some(Effect::Report { sandbox, event: Event::Ready(ready) })
            }
            (Phase::Cancelling(reason), Ok(_)) => {
                entry.phase = Phase::Ending(reason);
                Some(Effect::Delete { sandbox })
            }
            (Phase::Creating, Err(Failure { message, permanent })) => {
                self.sandboxes.remove(&sandbox);
                Some(Effect::Report { sandbox, event: Event::Failed { message, permanent } })
            }
            (Phase::Cancelling(reason), Err(_)) => {
                self.sandboxes.remove(&sandbox);
                Some(ended(sandbox, reason, String::new()))
            }
            // Its creation was over before.
            (Phase::Ready(_) | Phase::Ending(_), _) => None,
        }
    }

    /// The runtime has ended a sandbox as told.
    pub(crate) fn deleted(&mut self, sandbox: SandboxId) -> Option<Effect> {
        let Phase::Ending(reason) = self.sandboxes.get(&sandbox)?.phase else { return None };
        self.sandboxes.remove(&sandbox);
        Some(ended(sandbox, reason, String::new()))
    }

    /// A sandbox has ended by itself, and nothing is left of it. One that is being ended anyway is reported by
    /// [`deleted`](Self::deleted).
    pub(crate) fn exited(&mut self, sandbox: SandboxId, message: String) -> Option<Effect> {
        let Phase::Ready(_) = self.sandboxes.get(&sandbox)?.phase else { return None };
        self.sandboxes.remove(&sandbox);
        Some(ended(sandbox, Reason::Exited, message))
    }

    /// The worker ends: so does everything it holds.
    pub(crate) fn stop(&mut self) -> Vec<Effect> {
        self.stopping = true;
        self.end_all()
    }

    /// Everything that is held ends.
    pub(crate) fn end_all(&mut self) -> Vec<Effect> {
        let all: Vec<SandboxId> = self.sandboxes.keys().copied().collect();
        all.into_iter().filter_map(|sandbox| self.delete(sandbox, Reason::Stopped)).collect()
    }

    /// When the command to create a held sandbox was read.
    pub(crate) fn received(&self, sandbox: SandboxId) -> Option<Instant> {
        self.sandboxes.get(&sandbox).map(|entry| entry.received)
    }

    /// Whether the worker ends.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.sandboxes.is_empty()
    }

    /// What is held, for operators.
    pub(crate) fn show(&self) -> Vec<Shown> {
        let show = |(id, sandbox): (&SandboxId, &Sandbox)| {
            let (state, address) = match sandbox.phase {
                Phase::Creating => ("creating", None),
                Phase::Ready(address) => ("ready", Some(address)),
                Phase::Cancelling(_) | Phase::Ending(_) => ("ending", None),
            };
            let (function, revision) = (sandbox.spec.name.clone(), Revision(sandbox.spec.revision));
            Shown { sandbox: *id, function, revision, node: sandbox.node, state, address }
        };
        self.sandboxes.iter().map(show).collect()
    }
}

fn ended(sandbox: SandboxId, reason: Reason, message: String) -> Effect {
    Effect::Report { sandbox, event: Event::Ended { reason, message } }
}

#[cfg(test)]
mod tests;
