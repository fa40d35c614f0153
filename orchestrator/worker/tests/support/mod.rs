//! A minimal control plane that speaks the real protocol, and a worker under test that is connected to it.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    Incoming, Token, wire,
    wire::{
        orchestrator_server::{Orchestrator, OrchestratorServer},
        sandbox_event::Event,
    },
};
use futures::Stream;
use model::{Epoch, SandboxId};
use nix::unistd::Pid;
use service::{Network, OsNetwork};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};
use worker::{Addressing, Config};

/// Longest wait for anything; reached only if something is broken.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// The protocol's server side: passes every stream of a worker to the test.
struct Service {
    epoch: u32,
    /// Commands in the same message as the welcome.
    greeting: wire::ToWorker,
    streams: mpsc::Sender<WorkerStream>,
    heartbeats: watch::Sender<u64>,
}

/// One open stream of a worker.
pub(crate) struct WorkerStream {
    pub(crate) hello: wire::WorkerHello,
    epoch: u32,
    commands: mpsc::Sender<Result<wire::ToWorker, Status>>,
    events: Streaming<wire::FromWorker>,
    waiting: Vec<wire::SandboxEvent>,
}

#[tonic::async_trait]
impl Orchestrator for Service {
    type ConnectDataPlaneStream = Pin<Box<dyn Stream<Item = Result<wire::ToDataPlane, Status>> + Send>>;
    type ConnectWorkerStream = ReceiverStream<Result<wire::ToWorker, Status>>;

    async fn connect_data_plane(
        &self,
        _: Request<Streaming<wire::FromDataPlane>>,
    ) -> Result<Response<Self::ConnectDataPlaneStream>, Status> {
        Err(Status::unimplemented("only workers here"))
    }

    async fn connect_worker(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::ConnectWorkerStream>, Status> {
        let mut events = request.into_inner();
        let first = events.message().await?.ok_or_else(|| Status::invalid_argument("no hello"))?;
        let (commands, stream) = mpsc::channel(16);
        let welcome =
            wire::Welcome { protocol_version: api::PROTOCOL_VERSION, epoch: self.epoch, ..Default::default() };
        let first_response = wire::ToWorker { welcome: Some(welcome), ..self.greeting.clone() };
        commands.try_send(Ok(first_response)).unwrap();
        let hello = first.hello.ok_or_else(|| Status::invalid_argument("no hello"))?;
        let opened = WorkerStream { hello, epoch: self.epoch, commands, events, waiting: Vec::new() };
        self.streams.send(opened).await.map_err(|_| Status::unavailable("gone"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<wire::WorkerHeartbeat>>,
    ) -> Result<Response<wire::HeartbeatEnd>, Status> {
        let mut heartbeats = request.into_inner();
        while let Some(heartbeat) = heartbeats.message().await? {
            assert_eq!(heartbeat.worker, "w");
            self.heartbeats.send_modify(|count| *count += 1);
        }
        Ok(Response::new(wire::HeartbeatEnd {}))
    }
}

/// A control plane on a loopback port. Dropping it breaks its connections.
pub(crate) struct ControlPlane {
    pub(crate) address: SocketAddr,
    pub(crate) heartbeats: watch::Receiver<u64>,
    streams: mpsc::Receiver<WorkerStream>,
    _server: AbortOnDropHandle<()>,
}

impl ControlPlane {
    pub(crate) async fn start(epoch: u32) -> Self {
        Self::start_on(service::ANY_LOOPBACK, epoch, wire::ToWorker::default()).await
    }

    /// One that commands `greeting` together with its welcome.
    pub(crate) async fn start_on(address: SocketAddr, epoch: u32, greeting: wire::ToWorker) -> Self {
        let listener = OsNetwork.bind(address).await.unwrap();
        let address = listener.local_address().unwrap();
        let (sender, streams) = mpsc::channel(4);
        let (heartbeat_sender, heartbeats) = watch::channel(0);
        let service = Service { epoch, greeting, streams: sender, heartbeats: heartbeat_sender };
        let serve = Incoming::server()
            .add_service(InterceptedService::new(
                OrchestratorServer::new(service).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES),
                Token::require(None),
            ))
            .serve_with_incoming(Incoming::stream(listener));
        let server = AbortOnDropHandle::new(tokio::spawn(async move { serve.await.unwrap() }));
        Self { address, heartbeats, streams, _server: server }
    }

    /// The next stream that a worker opens.
    pub(crate) async fn stream(&mut self) -> WorkerStream {
        timeout(WAIT_TIMEOUT, self.streams.recv()).await.expect("a worker connects").unwrap()
    }
}

impl WorkerStream {
    pub(crate) fn id(&self, sequence: u64) -> SandboxId {
        SandboxId::new(Epoch(self.epoch), sequence).unwrap()
    }

    pub(crate) async fn send(&self, message: wire::ToWorker) {
        timeout(WAIT_TIMEOUT, self.commands.send(Ok(message))).await.unwrap().unwrap();
    }

    /// Sends a revision and the command to create one sandbox of it on node 0.
    pub(crate) async fn create(&self, sequence: u64, spec: wire::RevisionSpec) -> SandboxId {
        let sandbox = self.id(sequence);
        let create = wire::CreateSandbox { sandbox: sandbox.to_wire(), node: 0, revision: spec.revision };
        self.send(wire::ToWorker { functions: vec![spec], create: vec![create], ..wire::ToWorker::default() }).await;
        sandbox
    }

    pub(crate) async fn delete(&self, sandbox: SandboxId) {
        self.send(wire::ToWorker { delete: vec![sandbox.to_wire()], ..wire::ToWorker::default() }).await;
    }

    /// The next event of any sandbox.
    pub(crate) async fn event(&mut self) -> (SandboxId, Event) {
        while self.waiting.is_empty() {
            let message = timeout(WAIT_TIMEOUT, self.events.message()).await.expect("an event comes").unwrap();
            self.waiting = message.expect("the stream is open").events;
        }
        let event = self.waiting.remove(0);
        (SandboxId::from_wire(event.sandbox), event.event.unwrap())
    }

    /// The next event that is no progress of a creation.
    pub(crate) async fn outcome(&mut self) -> (SandboxId, Event) {
        loop {
            let (sandbox, event) = self.event().await;
            if !matches!(event, Event::Progress(_)) {
                return (sandbox, event);
            }
        }
    }

    /// The next event, which must be the progress of the creation of `sandbox`. Returns true if it waits.
    pub(crate) async fn is_queued(&mut self, sandbox: SandboxId) -> bool {
        match self.event().await {
            (id, Event::Progress(progress)) if id == sandbox => progress.queued,
            other => panic!("expected the progress of {sandbox}, got {other:?}"),
        }
    }

    /// The next event, which must be that `sandbox` is ready.
    pub(crate) async fn ready(&mut self, sandbox: SandboxId) -> (SocketAddr, wire::SandboxReady) {
        match self.outcome().await {
            (id, Event::Ready(ready)) if id == sandbox => (ready.address.parse().unwrap(), ready),
            other => panic!("expected {sandbox} to be ready, got {other:?}"),
        }
    }

    /// The next event, which must be the failure to create `sandbox`.
    pub(crate) async fn failed(&mut self, sandbox: SandboxId) -> wire::CreationFailed {
        match self.outcome().await {
            (id, Event::Failed(failed)) if id == sandbox => failed,
            other => panic!("expected {sandbox} to fail, got {other:?}"),
        }
    }

    /// The next event, which must be that `sandbox` ended.
    pub(crate) async fn ended(&mut self, sandbox: SandboxId) -> (wire::sandbox_ended::Reason, String) {
        match self.outcome().await {
            (id, Event::Ended(ended)) if id == sandbox => (ended.reason(), ended.message),
            other => panic!("expected {sandbox} to end, got {other:?}"),
        }
    }

    /// Returns true when the worker closes its side. Panics if it does not within [`WAIT_TIMEOUT`].
    pub(crate) async fn closes(&mut self) -> bool {
        loop {
            match timeout(WAIT_TIMEOUT, self.events.message()).await.expect("the stream ends") {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return true,
            }
        }
    }
}

/// A running worker; dropping it aborts it.
pub(crate) struct Worker {
    pub(crate) admin: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) data_dir: Arc<tempfile::TempDir>,
    running: Mutex<Option<AbortOnDropHandle<Result<(), worker::RunError>>>>,
}

impl Worker {
    /// A worker named `w` for `control_planes`, changed by `change`.
    pub(crate) async fn start(control_planes: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        let data_dir = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config {
            name: "w".to_owned(),
            control_planes: control_planes.iter().map(ToString::to_string).collect(),
            admin: service::ANY_LOOPBACK,
            data_dir: data_dir.path().to_owned(),
            heartbeat: Duration::from_millis(20),
            ..Config::default()
        };
        change(&mut config);
        let built = worker::build(config, Arc::new(OsNetwork)).await.unwrap();
        let (admin, shutdown) = (built.admin_address(), CancellationToken::new());
        let running = AbortOnDropHandle::new(tokio::spawn(built.run(shutdown.clone())));
        Self { admin, shutdown, data_dir, running: Mutex::new(Some(running)) }
    }

    /// Shuts it down and waits for its end.
    pub(crate) async fn end(&self) {
        self.shutdown.cancel();
        let running = self.running.lock().unwrap().take().unwrap();
        timeout(WAIT_TIMEOUT, running).await.expect("the worker ends").unwrap().unwrap();
    }

    /// A page of its admin API: status and body.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        get(self.admin, path, "").await.unwrap()
    }

    /// Polls a page until its status is `code`.
    pub(crate) async fn page_becomes(&self, path: &str, code: u16) {
        until(&format!("{path} has the status {code}"), async || self.page(path).await.0 == code).await;
    }
}

/// The settings of a hollow worker with the given constant delay.
pub(crate) fn hollow(config: &mut Config, delay: Duration) {
    config.runtime = "hollow".parse().unwrap();
    config.hollow.delay = constant(delay);
    config.hollow.nodes = 3;
}

/// As [`hollow`], with a listener for each sandbox.
pub(crate) fn hollow_with_listeners(config: &mut Config) {
    hollow(config, Duration::ZERO);
    config.hollow.addressing = Addressing::ListenerPerSandbox;
}

fn constant(delay: Duration) -> hollow::Delay {
    hollow::Delay::constant(delay).unwrap()
}

/// The settings of a worker whose sandboxes are processes.
pub(crate) fn processes(config: &mut Config) {
    config.runtime = "process".parse().unwrap();
    config.process.function = Some(programs::path("trace-function").unwrap());
    config.process.images = vec!["builtin:".to_owned(), "file:".to_owned()];
}

pub(crate) fn revision(image: &str) -> wire::RevisionSpec {
    wire::RevisionSpec {
        function: 1,
        revision: 5,
        name: "f".to_owned(),
        image: image.to_owned(),
        memory_mib: 64,
        concurrency: 1,
        ..wire::RevisionSpec::default()
    }
}

/// One GET over HTTP/1.1: status and body. `headers` are whole lines.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let broken = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "no response");
        let (head, body) = response.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
        Ok((status, body.to_owned()))
    };
    timeout(WAIT_TIMEOUT, exchange).await.expect("a response or an error comes")
}

/// Waits until `condition` holds.
pub(crate) async fn until(expected: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let poll = async {
        while !condition().await {
            ticks.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT, poll).await.unwrap_or_else(|_| panic!("expected: {expected}"));
}

/// A worker whose sandboxes are processes, changed by `change`, and its stream.
pub(crate) async fn start_processes(change: impl FnOnce(&mut worker::Config)) -> (ControlPlane, Worker, WorkerStream) {
    let mut control_plane = ControlPlane::start(1).await;
    let worker = Worker::start(&[control_plane.address], |config| {
        processes(config);
        change(config);
    })
    .await;
    let stream = control_plane.stream().await;
    (control_plane, worker, stream)
}

/// A shell script as a sandbox's program: its image.
pub(crate) fn script(folder: &Path, body: &str) -> String {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("file:{}", path.display())
}

/// The pid that a script printed with `echo pid $$`.
pub(crate) async fn pid_of(worker: &Worker, sandbox: SandboxId) -> Pid {
    let path = format!("/v1/sandboxes/{sandbox}/logs");
    let mut pid = None;
    until("the sandbox prints its pid", async || {
        let (_, log) = worker.page(&path).await;
        pid = log.lines().find_map(|line| line.strip_prefix("pid ")).and_then(|pid| pid.parse().ok());
        pid.is_some()
    })
    .await;
    Pid::from_raw(pid.unwrap())
}

/// Returns true if a process exists, also as a zombie.
pub(crate) fn exists(pid: Pid) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A function that starts a daemon on SIGTERM, and ends once the daemon has left its process group. The daemon has an
/// empty environment and writes its pid to `pid`.
fn function_that_leaves(folder: &Path, pid: &Path) -> String {
    let (function, pid) = (programs::path("trace-function").unwrap(), pid.display());
    let daemon = format!("echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 3600");
    let body = format!(
        "leave() {{\n  setsid env -i PATH=\"$PATH\" sh -c '{daemon}' > /dev/null 2>&1 &\n  while [ ! -e {pid} ]; do :; done\n  \
         exit 0\n}}\ntrap leave TERM\n{} &\nwait",
        function.display()
    );
    script(folder, &body)
}

fn pid_in(file: &Path) -> Pid {
    Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap())
}

/// The daemon of a sandbox that has ended.
pub(crate) async fn daemon_that_left(stream: &mut WorkerStream) -> Pid {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let sandbox = stream.create(1, revision(&function_that_leaves(folder.path(), &file))).await;
    stream.ready(sandbox).await;
    stream.delete(sandbox).await;
    stream.ended(sandbox).await;
    pid_in(&file)
}
