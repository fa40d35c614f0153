//! The one task that owns the table of sandboxes: passes every input to it and carries out the effects.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use api::{Outbox, OutboxMessages};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use model::SandboxId;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    events::{EndReason, Event, Events},
    hello::{Hello, Identity},
    messages::{Commands, Leader},
    metrics::{Metrics, Outcome},
    runtime::{CreatedSandbox, CreationFailure, CreationRequest, Progress, Runtime, Task},
    state::{Effect, LeaderMismatch, SandboxSummary, State},
};

/// Completions handled together, so that their events share a message. A larger batch would delay commands.
const MAX_COMPLETIONS_PER_BATCH: usize = 256;

/// Progress reports that fit the channel before creations wait to send theirs: a burst is read in a few batches.
const PROGRESS_QUEUE: usize = 1024;

/// An input of the owner from the session or the admin API.
pub(crate) enum Input {
    /// A stream is about to open and needs its outgoing messages.
    OpenStream(oneshot::Sender<OutboxMessages<Events>>),
    /// The control plane at the other end of the stream has identified itself.
    Welcome(Leader, oneshot::Sender<Result<(), LeaderMismatch>>),
    /// A control plane refused this worker because the worker belongs to another cluster.
    OtherCluster,
    /// Another process has had this worker's name for so long that no control plane will use this one's sandboxes again.
    NameConflict,
    /// A batch, and the time at which it was read.
    Commands(Commands, Instant),
    /// The stream has closed.
    StreamClosed,
    /// The admin API lists the sandboxes.
    ListSandboxes(oneshot::Sender<Vec<SandboxSummary>>),
}

/// Finished work of the runtime.
enum Completion {
    Created(SandboxId, Result<CreatedSandbox, CreationFailure>),
    Deleted(SandboxId),
    Exited(SandboxId, String),
}

/// Owns the state and carries out its effects.
pub(crate) struct Owner {
    identity: Identity,
    state: State,
    runtime: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
    /// A control plane commands this worker: the status of `/readyz`.
    has_leader: Arc<AtomicBool>,
    /// The outgoing messages of the open stream.
    outbox: Option<Outbox<Events>>,
    /// Cancels the creations that run.
    cancels: HashMap<SandboxId, CancellationToken>,
    /// Cloned into every creation.
    progress_sender: mpsc::Sender<(SandboxId, Progress)>,
    progress: mpsc::Receiver<(SandboxId, Progress)>,
    /// At most three futures a sandbox: its creation or deletion, and its exit.
    running: FuturesUnordered<Task<Completion>>,
}

impl Owner {
    pub(crate) fn new(
        identity: Identity,
        runtime: Arc<dyn Runtime>,
        metrics: Arc<Metrics>,
        has_leader: Arc<AtomicBool>,
    ) -> Self {
        let (progress_sender, progress) = mpsc::channel(PROGRESS_QUEUE);
        Self {
            state: State::new(identity.nodes.len()),
            identity,
            runtime,
            metrics,
            has_leader,
            outbox: None,
            cancels: HashMap::new(),
            progress_sender,
            progress,
            running: FuturesUnordered::new(),
        }
    }

    /// Runs until `shutdown`, then ends every sandbox and reports that. The stream's messages end after those reports.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        let mut stopping = false;
        while !(stopping && self.state.is_empty()) {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    let effects = self.state.stop();
                    // Announced first, so that the control plane does not replace the ending sandboxes here.
                    if let Some(outbox) = &self.outbox {
                        outbox.update(Events::leave);
                    }
                    self.perform(effects);
                }
                Some(first) = self.running.next() => self.on_completions(first),
                // Only running creations report progress. Without this guard `else` is never reached: this owner holds a sender.
                Some(first) = self.progress.recv(), if !self.running.is_empty() => self.on_progress(first),
                Some(input) = inputs.recv() => self.on_input(input),
                // All senders of inputs are gone.
                else => break,
            }
        }
        self.close_outbox();
    }

    /// Ends the messages of the open stream. Otherwise a control plane that this worker has left would wait for more.
    fn close_outbox(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.close();
        }
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::OpenStream(reply) => {
                let messages = self.open_stream();
                // If the session has dropped this attempt meanwhile, its next one opens another stream.
                let _ = reply.send(messages);
            }
            Input::Welcome(leader, reply) => {
                let _ = reply.send(self.state.on_welcome(leader));
            }
            Input::OtherCluster => self.state.on_other_cluster(),
            Input::NameConflict => {
                let effects = self.state.end_all();
                if !effects.is_empty() {
                    warn!(sandboxes = effects.len(), "another process has this worker's name: ending its sandboxes");
                }
                self.perform(effects);
            }
            Input::Commands(batch, received) => {
                let effects = self.state.on_commands(batch, received);
                self.perform(effects);
            }
            Input::StreamClosed => {
                self.state.on_stream_closed();
                self.close_outbox();
            }
            Input::ListSandboxes(reply) => {
                let _ = reply.send(self.state.summaries());
            }
        }
        self.has_leader.store(self.state.has_leader(), Ordering::Relaxed);
    }

    /// Starts the messages of a new stream with a hello. Every later change is reported on that stream, without a gap.
    fn open_stream(&mut self) -> OutboxMessages<Events> {
        let hello = Hello { identity: self.identity.clone(), state: self.state.on_stream_opening() };
        self.close_outbox();
        let mut events = Events::new(hello);
        if self.state.is_stopping() {
            events.leave();
        }
        let (outbox, messages) = Outbox::new(events);
        self.outbox = Some(outbox);
        messages
    }

    /// Handles `first` and the other completions that are ready.
    fn on_completions(&mut self, first: Completion) {
        let mut effects = Vec::new();
        let mut next = Some(first);
        while let Some(completion) = next {
            effects.extend(self.apply(completion));
            let has_room = effects.len() < MAX_COMPLETIONS_PER_BATCH;
            next = if has_room { self.running.next().now_or_never().flatten() } else { None };
        }
        self.perform(effects);
    }

    /// Handles `first` and the other progress reports that are ready.
    fn on_progress(&mut self, first: (SandboxId, Progress)) {
        let mut effects = Vec::new();
        let mut next = Some(first);
        while let Some((sandbox, progress)) = next {
            effects.extend(self.state.on_progress(sandbox, progress));
            next = if effects.len() < MAX_COMPLETIONS_PER_BATCH { self.progress.try_recv().ok() } else { None };
        }
        self.perform(effects);
    }

    fn apply(&mut self, completion: Completion) -> Option<Effect> {
        match completion {
            Completion::Created(sandbox, result) => {
                self.cancels.remove(&sandbox);
                let took = self.state.received(sandbox).map(|received| received.elapsed()).unwrap_or_default();
                let effect = match result {
                    Ok(mut created) => {
                        let effect = self.state.on_created(sandbox, Ok(&created));
                        if let Some(exit) = created.exit.take() {
                            self.running.push(Box::pin(async move { Completion::Exited(sandbox, exit.await) }));
                        }
                        effect
                    }
                    Err(failure) => self.state.on_created(sandbox, Err(failure)),
                };
                let outcome = match &effect {
                    Some(Effect::Report { event: Event::Ready(_), .. }) => Outcome::Ready,
                    Some(Effect::Report { event: Event::Failed { .. }, .. }) => Outcome::Failed,
                    _ => Outcome::Cancelled,
                };
                self.metrics.creation(outcome, took);
                effect
            }
            Completion::Deleted(sandbox) => self.state.on_deleted(sandbox),
            Completion::Exited(sandbox, message) => self.state.on_exited(sandbox, message),
        }
    }

    /// Carries out effects. The reports among them share a message.
    fn perform(&mut self, effects: Vec<Effect>) {
        let mut reports = Vec::new();
        for effect in effects {
            match effect {
                Effect::Create { sandbox, node, spec } => {
                    let cancel = CancellationToken::new();
                    self.cancels.insert(sandbox, cancel.clone());
                    let progress = self.progress_sender.clone();
                    let creation = self.runtime.create(CreationRequest { sandbox, node, spec, cancel, progress });
                    self.running.push(Box::pin(async move { Completion::Created(sandbox, creation.await) }));
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
                        Completion::Deleted(sandbox)
                    }));
                }
                Effect::Report { sandbox, event } => {
                    log(sandbox, &event);
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

/// Logs failures and unexpected ends as warnings, everything else for debugging.
fn log(sandbox: SandboxId, event: &Event) {
    match event {
        Event::Failed { message, permanent } => warn!(%sandbox, permanent, cause = message, "cannot create a sandbox"),
        Event::Ended { reason: EndReason::Exited, message } => {
            warn!(%sandbox, cause = message, "a sandbox ended by itself");
        }
        Event::Ready(_) | Event::Queued(_) | Event::Started | Event::Ended { .. } => debug!(%sandbox, ?event),
    }
}
