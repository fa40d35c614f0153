//! The one task that owns the sandboxes: takes what happens, asks the state what follows, and does it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use api::{Outbox, OutboxMessages, wire};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use model::{NodeSpec, SandboxId};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    events::{Event, Events},
    metrics::{Metrics, Outcome},
    runtime::{Failure, Made, Order, Progress, Runtime, Task},
    state::{Commander, Effect, Opening, Shown, State, WrongCommander},
};

/// Finished work taken up at once, so that its reports go out together; more would delay commands.
const MOST_AT_ONCE: usize = 256;

/// Reports of creations that wait, before the next one has to: a burst is read in a few steps.
const PROGRESS: usize = 1024;

/// What other tasks tell the owner or ask of it.
pub(crate) enum Input {
    /// A stream is about to open: what to send on it.
    Opening(oneshot::Sender<OutboxMessages<Events>>),
    /// Its other end says who it is.
    Welcome(Commander, oneshot::Sender<Result<(), WrongCommander>>),
    /// A control plane refused this worker because it is of another cluster.
    OtherCluster,
    /// Another process has had this worker's name for so long that nobody will ask for its sandboxes again.
    NameTaken,
    /// A batch, and when it was read.
    Commands(wire::ToWorker, Instant),
    /// The stream is no more.
    Closed,
    /// What is held?
    Show(oneshot::Sender<Vec<Shown>>),
}

/// Work of the runtime that is done.
enum Done {
    Created(SandboxId, Result<Made, Failure>),
    Deleted(SandboxId),
    Exited(SandboxId, String),
}

/// Who this worker is, as it says in each hello.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) worker: String,
    /// Its process.
    pub(crate) instance: u64,
    pub(crate) runtime: String,
    /// Where its admin pages are.
    pub(crate) admin: SocketAddr,
    pub(crate) nodes: Vec<NodeSpec>,
}

/// Owns the state and carries out its effects.
pub(crate) struct Owner {
    identity: Identity,
    state: State,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    /// Whether a control plane commands this worker: what `/readyz` says.
    commanded: Arc<AtomicBool>,
    /// Of the present stream.
    outbox: Option<Outbox<Events>>,
    /// Of creations under way.
    cancels: HashMap<SandboxId, CancellationToken>,
    /// Where creations stand that have to wait; the sender is for the next ones.
    progress: mpsc::Sender<(SandboxId, Progress)>,
    progressed: mpsc::Receiver<(SandboxId, Progress)>,
    /// At most three futures a sandbox: its creation or deletion, and its exit.
    running: FuturesUnordered<Task<Done>>,
}

impl Owner {
    pub(crate) fn new(
        identity: Identity,
        runtime: Arc<dyn Runtime>,
        metrics: Arc<Metrics>,
        commanded: Arc<AtomicBool>,
    ) -> Self {
        let (progress, progressed) = mpsc::channel(PROGRESS);
        let nodes = u32::try_from(identity.nodes.len()).expect("the configuration bounds the nodes");
        Self {
            identity,
            state: State::new(nodes),
            runtime,
            metrics,
            commanded,
            outbox: None,
            cancels: HashMap::new(),
            progress,
            progressed,
            running: FuturesUnordered::new(),
        }
    }

    /// Serves until `shutdown`, then ends every sandbox and says so. The stream's messages end after that.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        let mut stopping = false;
        while !(stopping && self.state.is_empty()) {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    let effects = self.state.stop();
                    // First, so that nothing is made here in place of what ends here.
                    if let Some(outbox) = &self.outbox {
                        outbox.update(Events::leave);
                    }
                    self.perform(effects);
                }
                Some(done) = self.running.next() => self.finish(done),
                // Only creations under way report: with none of them there is nothing to wait for.
                Some(first) = self.progressed.recv(), if !self.running.is_empty() => self.note_progress(first),
                Some(input) = inputs.recv() => self.take(input),
                // Nobody is left to tell it anything.
                else => break,
            }
        }
        self.close_outbox();
    }

    /// Ends the messages of the present stream. Without it a control plane that was left would wait for more.
    fn close_outbox(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.close();
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opening(reply) => {
                let messages = self.open();
                // The stream was given up already; the next one opens anew.
                let _ = reply.send(messages);
            }
            Input::Welcome(commander, reply) => {
                let _ = reply.send(self.state.welcome(commander));
            }
            Input::OtherCluster => self.state.other_cluster(),
            Input::NameTaken => {
                let effects = self.state.end_all();
                if !effects.is_empty() {
                    warn!(sandboxes = effects.len(), "another process has this worker's name: its sandboxes end");
                }
                self.perform(effects);
            }
            Input::Commands(batch, received) => {
                let effects = self.state.command(batch, received);
                self.perform(effects);
            }
            Input::Closed => {
                self.state.closed();
                self.close_outbox();
            }
            Input::Show(reply) => {
                let _ = reply.send(self.state.show());
            }
        }
        self.commanded.store(self.state.is_commanded(), Ordering::Relaxed);
    }

    /// Says what is held and reports to the new stream from here on, with nothing between.
    fn open(&mut self) -> OutboxMessages<Events> {
        let Opening { cluster, epoch, nonce, known, sandboxes } = self.state.opening();
        let announce = |node: &NodeSpec| wire::NodeAnnouncement {
            name: node.name.to_string(),
            cpu_millicores: node.capacity.cpu_millicores,
            memory_mib: node.capacity.memory_mib,
        };
        let hello = wire::WorkerHello {
            protocol_version: api::PROTOCOL_VERSION,
            worker: self.identity.worker.clone(),
            runtime: self.identity.runtime.clone(),
            admin: self.identity.admin.to_string(),
            epoch: epoch.0,
            epoch_nonce: nonce,
            known,
            nodes: self.identity.nodes.iter().map(announce).collect(),
            sandboxes,
            cluster,
            instance: self.identity.instance,
        };
        self.close_outbox();
        let mut events = Events::opening_with(hello);
        if self.state.is_stopping() {
            events.leave();
        }
        let (outbox, messages) = Outbox::new(events);
        self.outbox = Some(outbox);
        messages
    }

    /// Takes up finished work, and what else has finished meanwhile.
    fn finish(&mut self, first: Done) {
        let mut effects = Vec::new();
        let mut next = Some(first);
        while let Some(done) = next {
            effects.extend(self.apply(done));
            next = if effects.len() < MOST_AT_ONCE { self.running.next().now_or_never().flatten() } else { None };
        }
        self.perform(effects);
    }

    /// Takes up where a creation stands, and what else has been reported meanwhile.
    fn note_progress(&mut self, first: (SandboxId, Progress)) {
        let mut effects = Vec::new();
        let mut next = Some(first);
        while let Some((sandbox, progress)) = next {
            effects.extend(self.state.progressed(sandbox, progress));
            next = if effects.len() < MOST_AT_ONCE { self.progressed.try_recv().ok() } else { None };
        }
        self.perform(effects);
    }

    fn apply(&mut self, done: Done) -> Option<Effect> {
        match done {
            Done::Created(sandbox, result) => {
                self.cancels.remove(&sandbox);
                let took = self.state.received(sandbox).map(|received| received.elapsed()).unwrap_or_default();
                let effect = match result {
                    Ok(mut made) => {
                        let effect = self.state.created(sandbox, Ok(&made));
                        if let Some(exit) = made.exit.take() {
                            self.running.push(Box::pin(async move { Done::Exited(sandbox, exit.await) }));
                        }
                        effect
                    }
                    Err(failure) => self.state.created(sandbox, Err(failure)),
                };
                let outcome = match &effect {
                    Some(Effect::Report { event: Event::Ready(_), .. }) => Outcome::Ready,
                    Some(Effect::Report { event: Event::Failed { .. }, .. }) => Outcome::Failed,
                    _ => Outcome::Cancelled,
                };
                self.metrics.creation(outcome, took);
                effect
            }
            Done::Deleted(sandbox) => self.state.deleted(sandbox),
            Done::Exited(sandbox, message) => self.state.exited(sandbox, message),
        }
    }

    /// Carries out effects; the reports among them go out together.
    fn perform(&mut self, effects: Vec<Effect>) {
        let mut reports = Vec::new();
        for effect in effects {
            match effect {
                Effect::Create { sandbox, node, spec } => {
                    let cancel = CancellationToken::new();
                    self.cancels.insert(sandbox, cancel.clone());
                    let node = usize::try_from(node).expect("an index checked against the nodes");
                    let creation =
                        self.runtime.create(Order { sandbox, node, spec, cancel, progress: self.progress.clone() });
                    self.running.push(Box::pin(async move { Done::Created(sandbox, creation.await) }));
                }
                Effect::Cancel { sandbox } => {
                    if let Some(cancel) = self.cancels.get(&sandbox) {
                        cancel.cancel();
                    }
                }
                Effect::Delete { sandbox } => {
                    let deletion = self.runtime.delete(sandbox);
                    self.running.push(Box::pin(async move {
                        deletion.await;
                        Done::Deleted(sandbox)
                    }));
                }
                Effect::Report { sandbox, event } => {
                    note(sandbox, &event);
                    reports.push((sandbox, event));
                }
            }
        }
        // Without a stream nothing is lost: the next hello says what is held.
        if let (Some(outbox), false) = (&self.outbox, reports.is_empty()) {
            outbox.update(|events| reports.into_iter().for_each(|(sandbox, event)| events.add(sandbox, event)));
        }
    }
}

/// Logs what somebody may want to look into.
fn note(sandbox: SandboxId, event: &Event) {
    match event {
        Event::Failed { message, permanent } => warn!(%sandbox, permanent, cause = message, "cannot create a sandbox"),
        Event::Ended { reason: wire::sandbox_ended::Reason::Exited, message } => {
            warn!(%sandbox, cause = message, "a sandbox ended by itself");
        }
        Event::Ready(_) | Event::Queued(_) | Event::Begun | Event::Ended { .. } => debug!(%sandbox, ?event),
    }
}
