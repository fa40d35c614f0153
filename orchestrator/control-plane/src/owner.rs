//! The one task that owns the state: it feeds inputs in, and performs the effects that come out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use api::Outbox;
use record::ColdStart;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    beats::Beats,
    clock::Clock,
    log_writer::{CommandBatch, LogWriter, Written},
    metrics::Metrics,
    outbox::{DataPlaneBatch, WorkerBatch},
    state::{Answer, Effect, Input, Map, Request, SessionId, State, TimedMessage, Token},
    store::{Store, StoreError},
};

/// Messages that may wait for the owner; a sender beyond it waits, and slows down its own peer only.
const INBOX: usize = 8192;
/// Inputs handled before their effects are performed: batches grow with load and cost little delay.
const MOST_PER_ROUND: usize = 256;

/// A message to the owner.
pub(crate) enum Message {
    /// A worker connected; what it is to be told goes into the outbox.
    WorkerJoined(SessionId, Box<api::wire::WorkerHello>, Outbox<WorkerBatch>),
    /// A data plane connected.
    DataPlaneJoined(SessionId, Box<api::wire::DataPlaneHello>, Outbox<DataPlaneBatch>),
    /// An operator waits for an answer.
    Request(Request, oneshot::Sender<Answer>),
    /// Anything else.
    Input(Input),
}

/// Talks to the owner. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OwnerHandle {
    inbox: mpsc::Sender<Message>,
    sessions: Arc<AtomicU64>,
    pub(crate) beats: Arc<Beats>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
}

/// The owner is gone: the control plane is shutting down.
#[derive(Debug)]
pub(crate) struct Stopped;

impl OwnerHandle {
    /// A name for a new connection.
    pub(crate) fn new_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) async fn send(&self, message: Message) -> Result<(), Stopped> {
        self.inbox.send(message).await.map_err(|_| Stopped)
    }

    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Request(request, reply)).await?;
        answer.await.map_err(|_| Stopped)
    }
}

/// The owner task's own belongings.
pub(crate) struct Owner {
    state: State,
    clock: Clock,
    metrics: Arc<Metrics>,
    inbox: mpsc::Receiver<Message>,
    beats: Arc<Beats>,
    workers: Map<SessionId, Outbox<WorkerBatch>>,
    data_planes: Map<SessionId, Outbox<DataPlaneBatch>>,
    replies: BTreeMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    /// Commands that wait for the batch before them.
    commands: CommandBatch,
    /// Whether a batch is being written.
    is_writing: bool,
    log: mpsc::Sender<CommandBatch>,
    written: mpsc::Receiver<Written>,
    cold_starts: Option<mpsc::Sender<Box<ColdStart>>>,
}

impl Owner {
    /// The owner of `state`, with `store` for its commands, and the way to talk to it.
    pub(crate) fn new(
        state: State,
        clock: Clock,
        metrics: Arc<Metrics>,
        store: Box<dyn Store>,
        cold_starts: Option<mpsc::Sender<Box<ColdStart>>>,
    ) -> (Self, OwnerHandle, LogWriter) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (writer, log, written) = LogWriter::new(store, metrics.clone());
        let beats = Arc::new(Beats::default());
        let handle = OwnerHandle {
            inbox: sender,
            sessions: Arc::new(AtomicU64::new(1)),
            beats: beats.clone(),
            clock,
            metrics: metrics.clone(),
        };
        let owner = Self {
            state,
            clock,
            metrics,
            inbox,
            beats,
            workers: Map::default(),
            data_planes: Map::default(),
            replies: BTreeMap::new(),
            next_token: 0,
            commands: Vec::new(),
            is_writing: false,
            log,
            written,
            cold_starts,
        };
        (owner, handle, writer)
    }

    /// Runs until shutdown, or until the log cannot be written: then nothing may be acknowledged any more.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), StoreError> {
        let mut messages = Vec::with_capacity(MOST_PER_ROUND);
        loop {
            self.perform();
            let due = self.state.next_due_us().map(|us| self.clock.instant(us));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(written) = self.written.recv() => self.committed(written?),
                count = self.inbox.recv_many(&mut messages, MOST_PER_ROUND) => {
                    self.metrics.inbox.set(i64::try_from(count).unwrap_or(i64::MAX));
                    self.hear();
                    for message in messages.drain(..) {
                        self.handle(message);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.hear();
                    self.state.handle(self.clock.now(), Input::Time);
                }
            }
        }
        self.workers.values().for_each(Outbox::close);
        self.data_planes.values().for_each(Outbox::close);
        Ok(())
    }

    /// Takes up the signs of life, before anything is concluded from silence.
    fn hear(&mut self) {
        let heard = self.beats.take();
        if !heard.is_empty() {
            self.state.handle(self.clock.now(), Input::WorkerBeats { heard });
        }
    }

    fn handle(&mut self, message: Message) {
        let now = self.clock.now();
        let input = match message {
            Message::Input(input) => {
                match &input {
                    Input::WorkerLeft { session } => drop(self.workers.remove(session)),
                    Input::DataPlaneLeft { session } => drop(self.data_planes.remove(session)),
                    Input::FromDataPlane { said: TimedMessage { read_us, .. }, .. }
                    | Input::SandboxEvents { read_us, .. } => {
                        self.metrics.observed.input_wait.record(now.us.saturating_sub(*read_us));
                    }
                    _ => {}
                }
                input
            }
            Message::WorkerJoined(session, hello, outbox) => {
                self.workers.insert(session, outbox);
                Input::WorkerJoined { session, hello: *hello }
            }
            Message::DataPlaneJoined(session, hello, outbox) => {
                self.data_planes.insert(session, outbox);
                Input::DataPlaneJoined { session, hello: *hello }
            }
            Message::Request(request, reply) => {
                self.next_token += 1;
                let token = Token(self.next_token);
                self.replies.insert(token, reply);
                Input::Request { token, request }
            }
        };
        self.state.handle(now, input);
    }

    fn committed(&mut self, (first, commands): (u64, CommandBatch)) {
        self.is_writing = false;
        self.state.handle(self.clock.now(), Input::Committed { first, commands });
    }

    fn perform(&mut self) {
        for effect in self.state.take_effects() {
            self.perform_one(effect);
        }
        if !self.is_writing && !self.commands.is_empty() {
            // The channel holds one batch and none is under way, so there is room.
            self.is_writing = self.log.try_send(std::mem::take(&mut self.commands)).is_ok();
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::ToWorker { session, change } => {
                if let Some(outbox) = self.workers.get(&session) {
                    outbox.update(|batch| batch.add(change));
                }
            }
            Effect::ToDataPlane { session, change } => {
                if let Some(outbox) = self.data_planes.get(&session) {
                    outbox.update(|batch| batch.add(change));
                }
            }
            Effect::Append { command, token } => self.commands.push((command, token)),
            Effect::Reply { token, answer } => {
                if let Some(reply) = self.replies.remove(&token) {
                    // Whoever asked may have gone away.
                    drop(reply.send(answer));
                }
            }
            Effect::Record(row) => {
                if let Some(rows) = &self.cold_starts
                    && rows.try_send(row).is_err()
                {
                    tracing::error!("a cold start was not recorded: the disk is too slow");
                }
            }
            Effect::Close { session, reason } => {
                tracing::warn!(reason, "closing a connection");
                if let Some(outbox) = self.workers.remove(&session) {
                    outbox.close();
                }
                if let Some(outbox) = self.data_planes.remove(&session) {
                    outbox.close();
                }
            }
        }
    }
}
