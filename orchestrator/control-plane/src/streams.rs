//! The streams of data planes and workers: their messages are read, and converted from the wire.

use std::{pin::Pin, time::Duration};

use api::{
    Outbox, PROTOCOL_VERSION, PeerInfo, WireError,
    wire::{self, orchestrator_server::Orchestrator},
};
use futures::{Stream, StreamExt, stream};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    ending::{Ending, Peer},
    message::{DataPlaneHello, DataPlaneMessage, SandboxReport, WorkerHello},
    outbox::{DataPlaneBatch, WorkerBatch},
    owner::{Message, OwnerHandle},
    state::{Input, SessionId},
};

/// Time for a peer that has connected to send its hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves the streams.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) owner: OwnerHandle,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Orchestrator for Streams {
    type ConnectDataPlaneStream = Messages<wire::ToDataPlane>;
    type ConnectWorkerStream = Messages<wire::ToWorker>;

    async fn connect_data_plane(
        &self,
        request: Request<Streaming<wire::FromDataPlane>>,
    ) -> Result<Response<Self::ConnectDataPlaneStream>, Status> {
        let mut messages = request.into_inner();
        let hello = first(&mut messages).await?.hello.ok_or_else(no_hello)?;
        check_version(hello.protocol_version)?;
        let hello = DataPlaneHello::check(hello).map_err(refused)?;
        let session = self.owner.new_session();
        let (outbox, outgoing) = Outbox::new(DataPlaneBatch::new(self.owner.clock));
        let ending = Ending::default();
        let (peer, admitted) = Peer::new(outbox.clone(), ending.clone());
        let joined = Message::DataPlaneJoined(session, Box::new(hello), Box::new(peer));
        let reader = self.clone();
        let reading = async move {
            if reader.is_admitted(admitted).await {
                reader.read_data_plane(session, messages, &outbox).await;
            }
            outbox.close();
        };
        self.attend(joined, reading, Input::DataPlaneLeft { session }).await?;
        Ok(Response::new(with_ending(outgoing, ending)))
    }

    async fn connect_worker(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        let address = request.extensions().get::<PeerInfo>().map(|peer| peer.address.ip());
        let mut messages = request.into_inner();
        let hello = first(&mut messages).await?.hello.ok_or_else(no_hello)?;
        check_version(hello.protocol_version)?;
        let hello = WorkerHello::check(hello).map_err(refused)?;
        let session = self.owner.new_session();
        let (outbox, outgoing) = Outbox::new(WorkerBatch::new(self.owner.clock));
        let ending = Ending::default();
        let (peer, admitted) = Peer::new(outbox.clone(), ending.clone());
        let joined = Message::WorkerJoined(session, Box::new(hello), Box::new(peer), address);
        let reader = self.clone();
        let reading = async move {
            if reader.is_admitted(admitted).await {
                reader.read_worker(session, messages, &outbox).await;
            }
            outbox.close();
        };
        self.attend(joined, reading, Input::WorkerLeft { session }).await?;
        Ok(Response::new(with_ending(outgoing, ending)))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<wire::WorkerHeartbeat>>,
    ) -> Result<Response<wire::HeartbeatEnd>, Status> {
        let mut heartbeats = request.into_inner();
        loop {
            let heartbeat = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Err(shutting_down()),
                heartbeat = heartbeats.next() => heartbeat,
            };
            let Some(Ok(heartbeat)) = heartbeat else { return Ok(Response::new(wire::HeartbeatEnd {})) };
            self.owner.heartbeats.note(heartbeat, None, self.owner.clock.now_us());
        }
    }
}

impl Streams {
    /// Tells the owner that a peer has `joined`, reads its stream in a task, and tells the owner then that it has `left`.
    async fn attend(
        &self,
        joined: Message,
        reading: impl Future<Output = ()> + Send + 'static,
        left: Input,
    ) -> Result<(), Status> {
        self.owner.send(joined).await.map_err(|_| shutting_down())?;
        let owner = self.owner.clone();
        self.tasks.spawn(async move {
            reading.await;
            // When the owner is gone nobody needs to know.
            drop(owner.send(Message::Input(left)).await);
        });
        Ok(())
    }

    /// Waits until a peer is admitted, and returns false if it is not. None of its messages is read before.
    async fn is_admitted(&self, admitted: oneshot::Receiver<()>) -> bool {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => false,
            admitted = admitted => admitted.is_ok(),
        }
    }

    async fn read_data_plane(
        &self,
        session: SessionId,
        mut messages: Streaming<wire::FromDataPlane>,
        outbox: &Outbox<DataPlaneBatch>,
    ) {
        while let Some(message) = self.next(&mut messages).await {
            let read_us = self.owner.clock.now_us();
            let mut message = DataPlaneMessage::of(message, read_us);
            if !message.acks.is_empty() {
                outbox.inspect(|batch| {
                    message.acks.iter_mut().for_each(|ack| ack.published_us = batch.take_published(ack.sandbox));
                });
            }
            let input = Input::FromDataPlane { session, message };
            if self.owner.send(Message::Input(input)).await.is_err() {
                return;
            }
        }
    }

    async fn read_worker(
        &self,
        session: SessionId,
        mut messages: Streaming<wire::FromWorker>,
        outbox: &Outbox<WorkerBatch>,
    ) {
        while let Some(message) = self.next(&mut messages).await {
            let read_us = self.owner.clock.now_us();
            if message.leaving && self.owner.send(Message::Input(Input::WorkerLeaves { session })).await.is_err() {
                return;
            }
            let mut reports: Vec<_> = message.events.into_iter().filter_map(SandboxReport::of).collect();
            outbox.inspect(|batch| {
                for report in reports.iter_mut().filter(|report| report.ends_creation()) {
                    report.dispatched_us = batch.take_dispatched(report.id);
                }
            });
            let input = Input::SandboxReports { session, reports, read_us };
            if self.owner.send(Message::Input(input)).await.is_err() {
                return;
            }
        }
    }

    /// The next message; `None` when the connection is over, broken, or no longer wanted, or the message too large.
    async fn next<T: prost::Message>(&self, messages: &mut Streaming<T>) -> Option<T> {
        let message = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            message = messages.next() => message?.inspect_err(|cause| tracing::info!(%cause, "a stream broke")).ok()?,
        };
        let checked = api::check_size(&message);
        checked.inspect_err(|cause| tracing::warn!(%cause, "a peer's stream is ended")).is_ok().then_some(message)
    }
}

/// The messages to a peer, then the reason why no more follow, if the owner gave one.
fn with_ending<T: Send + 'static>(outgoing: impl Stream<Item = T> + Send + 'static, ending: Ending) -> Messages<T> {
    let last = stream::once(async move { ending.status() }).filter_map(|status| async { status.map(Err) });
    Box::pin(outgoing.map(Ok).chain(last))
}

async fn first<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    let message = timeout(HELLO_TIMEOUT, messages.message()).await;
    message.map_err(|_| Status::deadline_exceeded("no hello in time"))??.ok_or_else(no_hello)
}

fn no_hello() -> Status {
    Status::invalid_argument(WireError::NoHello.to_string())
}

fn shutting_down() -> Status {
    Status::unavailable("the control plane is shutting down")
}

fn check_version(theirs: u32) -> Result<(), Status> {
    if theirs == PROTOCOL_VERSION {
        return Ok(());
    }
    let cause = WireError::Version { theirs, ours: PROTOCOL_VERSION }.to_string();
    tracing::warn!(cause, "a peer was refused");
    Err(Status::failed_precondition(cause))
}

fn refused(cause: String) -> Status {
    tracing::warn!(cause, "a peer was refused");
    Status::invalid_argument(cause)
}
