//! A simulated control plane.

mod data_plane_stream;
mod worker_stream;

use std::{net::SocketAddr, pin::Pin};

use api::{
    Incoming, PROTOCOL_VERSION, Token,
    wire::{
        self,
        orchestrator_server::{Orchestrator, OrchestratorServer},
    },
};
use service::{ANY_LOOPBACK, Network, OsNetwork};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};

pub use data_plane_stream::DataPlaneStream;
pub use worker_stream::WorkerStream;

use crate::WAIT_TIMEOUT;

/// A control plane on a loopback port, for the workers and data planes under test. Dropping it breaks their connections.
pub struct ControlPlane {
    /// Its address for streams.
    pub address: SocketAddr,
    /// The number of heartbeats received.
    pub heartbeats: watch::Receiver<u64>,
    worker_streams: mpsc::UnboundedReceiver<WorkerStream>,
    data_plane_streams: mpsc::UnboundedReceiver<DataPlaneStream>,
    stop: CancellationToken,
    _server: AbortOnDropHandle<()>,
}

/// Messages to a peer, or the status that ends its stream.
type Sender<T> = mpsc::UnboundedSender<Result<T, Status>>;
type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The protocol's server side: passes every stream to the test.
struct Service {
    worker_epoch: u32,
    worker_commands: wire::ToWorker,
    worker_streams: mpsc::UnboundedSender<WorkerStream>,
    data_plane_streams: mpsc::UnboundedSender<DataPlaneStream>,
    heartbeats: watch::Sender<u64>,
}

impl ControlPlane {
    /// Starts one of epoch 1 on a free port.
    pub async fn start() -> Self {
        Self::start_at(ANY_LOOPBACK, 1).await
    }

    /// Starts one at `address` (port 0: a free one), which welcomes workers with `epoch`. The welcome of a data plane is the
    /// test's, as its snapshot is.
    pub async fn start_at(address: SocketAddr, epoch: u32) -> Self {
        Self::start_with(address, epoch, wire::ToWorker::default()).await
    }

    /// The same, with `commands` in the message that welcomes a worker.
    pub async fn start_with(address: SocketAddr, epoch: u32, commands: wire::ToWorker) -> Self {
        let listener = OsNetwork.bind(address).await.unwrap();
        let address = listener.local_address().unwrap();
        let (worker_sender, worker_streams) = mpsc::unbounded_channel();
        let (data_plane_sender, data_plane_streams) = mpsc::unbounded_channel();
        let (heartbeat_sender, heartbeats) = watch::channel(0);
        let stop = CancellationToken::new();
        let service = Service {
            worker_epoch: epoch,
            worker_commands: commands,
            worker_streams: worker_sender,
            data_plane_streams: data_plane_sender,
            heartbeats: heartbeat_sender,
        };
        let server = OrchestratorServer::new(service).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES);
        let serve = Incoming::server()
            .add_service(InterceptedService::new(server, Token::require(None)))
            .serve_with_incoming_shutdown(Incoming::stream(listener), stop.clone().cancelled_owned());
        let server = AbortOnDropHandle::new(tokio::spawn(async move { drop(serve.await) }));
        Self { address, heartbeats, worker_streams, data_plane_streams, stop, _server: server }
    }

    /// The next stream that a worker opens.
    pub async fn worker(&mut self) -> WorkerStream {
        timeout(WAIT_TIMEOUT, self.worker_streams.recv()).await.expect("a worker connects").unwrap()
    }

    /// The next stream that a data plane opens.
    pub async fn data_plane(&mut self) -> DataPlaneStream {
        timeout(WAIT_TIMEOUT, self.data_plane_streams.recv()).await.expect("a data plane connects").unwrap()
    }

    /// Stops accepting connections, and frees the port once the open ones have ended.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// The first message of a stream, which has the hello.
async fn first<T>(messages: &mut Streaming<T>) -> Result<T, Status> {
    messages.message().await?.ok_or_else(|| Status::invalid_argument("the stream ended before the hello"))
}

#[tonic::async_trait]
impl Orchestrator for Service {
    type ConnectDataPlaneStream = Responses<wire::ToDataPlane>;
    type ConnectWorkerStream = Responses<wire::ToWorker>;

    async fn connect_data_plane(
        &self,
        request: Request<Streaming<wire::FromDataPlane>>,
    ) -> Result<Response<Self::ConnectDataPlaneStream>, Status> {
        let mut messages = request.into_inner();
        let hello = first(&mut messages).await?.hello;
        let hello = hello.ok_or_else(|| Status::invalid_argument("the first message has no hello"))?;
        let (sender, responses) = mpsc::unbounded_channel();
        let stream = DataPlaneStream::new(hello, sender, messages);
        self.data_plane_streams.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(responses))))
    }

    async fn connect_worker(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        let mut messages = request.into_inner();
        let hello = first(&mut messages).await?.hello;
        let hello = hello.ok_or_else(|| Status::invalid_argument("the first message has no hello"))?;
        let (sender, responses) = mpsc::unbounded_channel();
        let welcome =
            wire::Welcome { protocol_version: PROTOCOL_VERSION, epoch: self.worker_epoch, ..Default::default() };
        let _ = sender.send(Ok(wire::ToWorker { welcome: Some(welcome), ..self.worker_commands.clone() }));
        let stream = WorkerStream::new(hello, self.worker_epoch, sender, messages);
        self.worker_streams.send(stream).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(responses))))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<wire::WorkerHeartbeat>>,
    ) -> Result<Response<wire::HeartbeatEnd>, Status> {
        let mut heartbeats = request.into_inner();
        while let Some(heartbeat) = heartbeats.message().await? {
            if heartbeat.worker.is_empty() {
                return Err(Status::invalid_argument("the heartbeat names no worker"));
            }
            self.heartbeats.send_modify(|count| *count += 1);
        }
        Ok(Response::new(wire::HeartbeatEnd {}))
    }
}
