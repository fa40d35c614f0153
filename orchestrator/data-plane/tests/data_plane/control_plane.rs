//! A scripted control plane that records what it receives.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use api::{
    Incoming, PROTOCOL_VERSION, Token,
    wire::{
        self,
        orchestrator_server::{Orchestrator, OrchestratorServer},
    },
};
use service::{Network, OsNetwork};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};

/// Deadline of everything that a test waits for.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A running control plane.
pub(crate) struct ControlPlane {
    pub(crate) address: SocketAddr,
    streams: mpsc::UnboundedReceiver<Session>,
    stop: CancellationToken,
}

/// One stream of a data plane.
pub(crate) struct Session {
    to: Option<mpsc::UnboundedSender<Result<wire::ToDataPlane, Status>>>,
    from: Streaming<wire::FromDataPlane>,
    pub(crate) hello: wire::DataPlaneHello,
    demand: Vec<wire::Demand>,
    pub(crate) samples: Vec<wire::Sample>,
    acks: Vec<wire::EndpointAck>,
    pub(crate) failures: Vec<wire::EndpointFailure>,
    limit_acks: Vec<wire::LimitAck>,
    applied: u64,
}

struct Service(mpsc::UnboundedSender<Session>);

impl ControlPlane {
    /// Listens on `address` (port 0: any).
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let listener = OsNetwork.bind(address).await.unwrap();
        let address = listener.local_address().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let ended = stop.clone().cancelled_owned();
        let serve = Incoming::server()
            .add_service(InterceptedService::new(OrchestratorServer::new(Service(sender)), Token::require(None)))
            .serve_with_incoming_shutdown(Incoming::stream(listener), ended);
        tokio::spawn(async move { drop(serve.await) });
        Self { address, streams, stop }
    }

    /// Accepts the next stream of a data plane.
    pub(crate) async fn session(&mut self) -> Session {
        timeout(WAIT_TIMEOUT, self.streams.recv()).await.expect("the data plane opens a stream").unwrap()
    }

    /// Shuts down, and frees its port once its connections have ended.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Session {
    pub(crate) fn send(&self, message: wire::ToDataPlane) {
        let _ = self.to.as_ref().unwrap().send(Ok(message));
    }

    /// Sends the welcome and a snapshot of `functions`.
    pub(crate) fn send_hello(&self, epoch: u32, functions: Vec<wire::FunctionConfig>) {
        let welcome = Some(wire::Welcome { protocol_version: PROTOCOL_VERSION, epoch, ..Default::default() });
        self.send(wire::ToDataPlane { welcome, ..Default::default() });
        self.send(wire::ToDataPlane { functions, sequence: 1, snapshot_end: true, ..Default::default() });
    }

    pub(crate) fn delta(&self, delta: wire::EndpointDelta) {
        self.send(wire::ToDataPlane { endpoints: vec![delta], ..Default::default() });
    }

    pub(crate) fn limit(&self, limit: wire::GrantLimit) {
        self.send(wire::ToDataPlane { limits: vec![limit], ..Default::default() });
    }

    /// Refuses the data plane.
    pub(crate) fn refuse(&self, status: Status) {
        let _ = self.to.as_ref().unwrap().send(Err(status));
    }

    /// Ends the stream.
    pub(crate) fn close(&mut self) {
        self.to = None;
    }

    /// Receives until `check` returns something.
    async fn until<T>(&mut self, what: &str, mut check: impl FnMut(&mut Self) -> Option<T>) -> T {
        let received = async {
            loop {
                if let Some(found) = check(self) {
                    return found;
                }
                match self.from.message().await {
                    Ok(Some(message)) => self.receive(message),
                    end => panic!("the stream ended ({end:?}) before {what}"),
                }
            }
        };
        timeout(WAIT_TIMEOUT, received).await.unwrap_or_else(|_| panic!("not heard in time: {what}"))
    }

    fn receive(&mut self, message: wire::FromDataPlane) {
        self.demand.extend(message.demand);
        self.samples.extend(message.samples);
        self.acks.extend(message.acks);
        self.failures.extend(message.failures);
        self.limit_acks.extend(message.limit_acks);
        self.applied = self.applied.max(message.applied);
    }

    /// Waits for an acknowledgement of `sandbox` that matches.
    pub(crate) async fn ack(&mut self, sandbox: u64, fits: impl Fn(&wire::EndpointAck) -> bool) -> wire::EndpointAck {
        self.until("an endpoint ack", |session| {
            let index = session.acks.iter().position(|ack| ack.sandbox == sandbox && fits(ack))?;
            Some(session.acks.remove(index))
        })
        .await
    }

    pub(crate) async fn limit_ack(&mut self, version: u64) -> wire::LimitAck {
        self.until("a limit ack", |session| {
            let index = session.limit_acks.iter().position(|ack| ack.version == version)?;
            Some(session.limit_acks.remove(index))
        })
        .await
    }

    pub(crate) async fn failure(&mut self, sandbox: u64) -> wire::EndpointFailure {
        self.until("an endpoint failure", |session| {
            let index = session.failures.iter().position(|failure| failure.sandbox == sandbox)?;
            Some(session.failures.remove(index))
        })
        .await
    }

    /// Waits until the last reported demand is `waiting`.
    pub(crate) async fn waiting(&mut self, waiting: u32) {
        self.until(&format!("a demand of {waiting} waiting"), |session| {
            (session.demand.last()?.waiting == waiting).then_some(())
        })
        .await;
    }

    pub(crate) async fn sample(&mut self, fits: impl Fn(&wire::Sample) -> bool) -> wire::Sample {
        self.until("a sample", |session| {
            let index = session.samples.iter().position(&fits)?;
            Some(session.samples.remove(index))
        })
        .await
    }

    pub(crate) async fn applied(&mut self, sequence: u64) {
        self.until("an applied sequence", |session| (session.applied >= sequence).then_some(())).await;
    }

    /// Receives until the data plane ends the stream.
    pub(crate) async fn ended(&mut self) {
        let end = async {
            while let Ok(Some(message)) = self.from.message().await {
                self.receive(message)
            }
        };
        timeout(WAIT_TIMEOUT, end).await.expect("the data plane ends its stream");
    }
}

#[tonic::async_trait]
impl Orchestrator for Service {
    type ConnectDataPlaneStream = Answers<wire::ToDataPlane>;
    type ConnectWorkerStream = Answers<wire::ToWorker>;

    async fn connect_data_plane(
        &self,
        request: Request<Streaming<wire::FromDataPlane>>,
    ) -> Result<Response<Self::ConnectDataPlaneStream>, Status> {
        let mut from = request.into_inner();
        let first = from.message().await?.ok_or_else(|| Status::invalid_argument("nothing was said"))?;
        let hello = first.hello.ok_or_else(|| Status::invalid_argument("the first message is no hello"))?;
        let (to, responses) = mpsc::unbounded_channel();
        let session = Session {
            to: Some(to),
            from,
            hello,
            demand: Vec::new(),
            samples: Vec::new(),
            acks: Vec::new(),
            failures: Vec::new(),
            limit_acks: Vec::new(),
            applied: 0,
        };
        self.0.send(session).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(responses))))
    }

    async fn connect_worker(
        &self,
        _request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        Err(Status::unimplemented("no workers here"))
    }

    async fn heartbeat(
        &self,
        _request: Request<Streaming<wire::WorkerHeartbeat>>,
    ) -> Result<Response<wire::HeartbeatEnd>, Status> {
        Err(Status::unimplemented("no workers here"))
    }
}

/// The operating system's network.
pub(crate) fn network() -> Arc<dyn Network> {
    Arc::new(OsNetwork)
}
