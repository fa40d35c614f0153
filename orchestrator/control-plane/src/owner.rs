//! The one task that owns the state. It passes inputs to the state and performs the effects that result.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use api::Outbox;
use record::ColdStart;
use service::Clock;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    ending::{Endings, Peer},
    heartbeats::{Heartbeats, Sender},
    log_writer::{CommandBatch, LogWriter, Written},
    message::{DataPlaneHello, DataPlaneMessage, WorkerHello},
    metrics::Metrics,
    now::Now,
    outbox::{DataPlaneBatch, WorkerBatch},
    state::{DataPlaneChange, Effect, Input, Map, Reply, Request, SessionId, State, WorkerChange},
    store::{Store, StoreError},
};

/// Messages that may wait for the owner; a sender beyond it waits, and slows down its own peer only.
const INBOX: usize = 8192;
/// Inputs handled before their effects are performed: batches grow with load and cost little delay.
const MAX_INPUTS_PER_ROUND: usize = 256;

/// The owner's end of a worker's stream.
pub(crate) type WorkerPeer = Peer<Outbox<WorkerBatch>>;
/// The owner's end of a data plane's stream.
pub(crate) type DataPlanePeer = Peer<Outbox<DataPlaneBatch>>;

/// A worker's connection, and the sender of its heartbeats.
struct ConnectedWorker {
    peer: Box<WorkerPeer>,
    name: String,
    sender: Sender,
}

struct ConnectedDataPlane {
    peer: Box<DataPlanePeer>,
    name: String,
}

/// A message to the owner.
pub(crate) enum Message {
    /// A worker connected from an address, if that is known.
    WorkerJoined(SessionId, Box<WorkerHello>, Box<WorkerPeer>, Option<IpAddr>),
    /// A data plane connected.
    DataPlaneJoined(SessionId, Box<DataPlaneHello>, Box<DataPlanePeer>),
    /// Anything else.
    Input(Input),
}

/// Talks to the owner. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OwnerHandle {
    inbox: mpsc::Sender<Message>,
    sessions: Arc<AtomicU64>,
    pub(crate) heartbeats: Arc<Heartbeats>,
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

    /// Sends a request, and waits for its response.
    pub(crate) async fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T, Stopped> {
        let (reply, response) = Reply::channel();
        self.send(Message::Input(Input::Request(request(reply)))).await?;
        response.await.map_err(|_| Stopped)
    }
}

/// The owner task's own belongings.
pub(crate) struct Owner {
    state: State,
    clock: Clock,
    metrics: Arc<Metrics>,
    inbox: mpsc::Receiver<Message>,
    heartbeats: Arc<Heartbeats>,
    workers: Map<SessionId, ConnectedWorker>,
    data_planes: Map<SessionId, ConnectedDataPlane>,
    /// Limits the log lines about connections that the control plane ends.
    ended: Endings,
    /// Commands that wait for the batch before them.
    commands: CommandBatch,
    /// A batch is being written; further commands are collected for the next one.
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
        let heartbeats = Arc::new(Heartbeats::default());
        let handle = OwnerHandle {
            inbox: sender,
            sessions: Arc::new(AtomicU64::new(1)),
            heartbeats: heartbeats.clone(),
            clock,
            metrics: metrics.clone(),
        };
        let owner = Self {
            state,
            clock,
            metrics,
            inbox,
            heartbeats,
            workers: Map::default(),
            data_planes: Map::default(),
            ended: Endings::default(),
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
        self.state.recover(Now::read(self.clock));
        let mut messages = Vec::with_capacity(MAX_INPUTS_PER_ROUND);
        loop {
            self.perform();
            let due = self.state.next_due_us().map(|us| self.clock.at(us));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(written) = self.written.recv() => self.committed(written?),
                count = self.inbox.recv_many(&mut messages, MAX_INPUTS_PER_ROUND) => {
                    self.metrics.inbox.set(i64::try_from(count).unwrap_or(i64::MAX));
                    self.receive_heartbeats();
                    for message in messages.drain(..) {
                        self.handle(message);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.receive_heartbeats();
                    self.state.handle(Now::read(self.clock), Input::Time);
                }
            }
        }
        self.workers.values().for_each(|worker| worker.peer.outbox.close());
        self.data_planes.values().for_each(|known| known.peer.outbox.close());
        Ok(())
    }

    /// Takes the received heartbeats, always before a timer runs: a worker must not seem unresponsive because its
    /// heartbeats were not read yet.
    fn receive_heartbeats(&mut self) {
        let received = self.heartbeats.take();
        if !received.is_empty() {
            self.state.handle(Now::read(self.clock), Input::Heartbeats { received });
        }
    }

    fn handle(&mut self, message: Message) {
        let now = Now::read(self.clock);
        let input = match message {
            Message::Input(input) => {
                match &input {
                    Input::WorkerLeft { session } => drop(self.forget_worker(*session)),
                    Input::DataPlaneLeft { session } => drop(self.data_planes.remove(session)),
                    Input::FromDataPlane { message: DataPlaneMessage { read_us, .. }, .. }
                    | Input::SandboxReports { read_us, .. } => {
                        self.metrics.observed.input_wait.observe_us(now.us.saturating_sub(*read_us));
                    }
                    _ => {}
                }
                input
            }
            Message::WorkerJoined(session, hello, peer, address) => {
                let sender = Sender { instance: hello.instance, address };
                let worker = ConnectedWorker { peer, name: hello.name.clone(), sender };
                self.workers.insert(session, worker);
                Input::WorkerJoined { session, hello }
            }
            Message::DataPlaneJoined(session, hello, peer) => {
                let name = hello.id.0.clone();
                self.data_planes.insert(session, ConnectedDataPlane { peer, name });
                Input::DataPlaneJoined { session, hello }
            }
        };
        self.state.handle(now, input);
    }

    fn committed(&mut self, (first, commands): (u64, CommandBatch)) {
        self.is_writing = false;
        self.state.handle(Now::read(self.clock), Input::Committed { first, commands });
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
                let Some(worker) = self.workers.get_mut(&session) else { return };
                if matches!(change, WorkerChange::Welcome(_)) {
                    worker.peer.admit();
                    self.heartbeats.connect(worker.name.clone(), worker.sender);
                }
                worker.peer.outbox.update(|batch| batch.add(change));
            }
            Effect::ToDataPlane { session, change } => {
                let Some(ConnectedDataPlane { peer, .. }) = self.data_planes.get_mut(&session) else { return };
                if matches!(change, DataPlaneChange::Welcome(_)) {
                    peer.admit();
                }
                peer.outbox.update(|batch| batch.add(change));
            }
            Effect::Append { command, origin } => self.commands.push((command, origin)),
            Effect::Reply(response) => response.deliver(),
            Effect::Record(row) => {
                if let Some(rows) = &self.cold_starts
                    && rows.try_send(row).is_err()
                {
                    tracing::error!("a cold start was not recorded: the disk is too slow");
                }
            }
            Effect::Close { session, reason } => {
                self.close(session, Status::failed_precondition(reason));
            }
            Effect::RefuseName { session, reason } => self.close(session, api::refuse_name(reason)),
            Effect::RefuseStranger { session, ours, reason } => {
                self.close(session, api::refuse_other_cluster(reason, ours));
            }
        }
    }

    /// Ends a connection with a reason, which the peer receives.
    fn close(&mut self, session: SessionId, status: Status) {
        if let Some(ConnectedWorker { peer, name, .. }) = self.forget_worker(session) {
            self.ended.log("worker", &name, status.message());
            peer.ending.set(status);
            peer.outbox.close();
        } else if let Some(ConnectedDataPlane { peer, name }) = self.data_planes.remove(&session) {
            self.ended.log("data plane", &name, status.message());
            peer.ending.set(status);
            peer.outbox.close();
        }
    }

    fn forget_worker(&mut self, session: SessionId) -> Option<ConnectedWorker> {
        let worker = self.workers.remove(&session)?;
        self.heartbeats.disconnect(&worker.name, worker.sender);
        Some(worker)
    }
}
