//! A control plane from its configuration to its end: binds the ports, reads the command log, and runs the tasks.

use std::{net::SocketAddr, path::Path, sync::Arc};

use api::{CLUSTER_TOKEN_FILE, HeartbeatReceiver, Incoming, Token, wire::orchestrator_server::OrchestratorServer};
use model::Epoch;
use record::ColdStart;
use service::{Clock, Config as _, ConfigError, Listener, Network, bind};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::interceptor::InterceptedService;

use crate::{
    Config, RunError, StartError,
    coldstarts::{ColdStartLog, MAX_WAITING_ROWS},
    http::{self, Access},
    log_writer::LogWriter,
    metrics::Metrics,
    owner::{Owner, OwnerHandle},
    registry::Registry,
    state::{Settings, State, Term},
    store::{Command, Store, StoreError},
    streams::Streams,
};

/// A running control plane.
pub type Handle = service::Handle<Addresses, RunError>;

/// The addresses that a control plane has bound.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For data planes and workers.
    pub stream: SocketAddr,
    /// For operators.
    pub http: SocketAddr,
}

/// The record of cold starts, and its rows to come.
type ColdStartWriter = (ColdStartLog, mpsc::Receiver<Box<ColdStart>>);

/// A control plane whose ports are bound and whose command log is read.
pub struct Service {
    owner: Owner,
    handle: OwnerHandle,
    log: LogWriter,
    cold_starts: Option<ColdStartWriter>,
    stream: Box<dyn Listener>,
    heartbeats: Option<HeartbeatReceiver>,
    http: Box<dyn Listener>,
    invoke_addresses: Vec<String>,
    access: Access,
    /// The token that peers must have; `None`: everybody who reaches the port is admitted.
    token: Option<Token>,
}

impl Service {
    /// Binds the ports, reads the command log, begins a new epoch in it, and serves.
    ///
    /// # Errors
    /// If the configuration, a port, the command log or the record directory cannot be used.
    pub async fn start(config: Config, network: Arc<dyn Network>, store: Box<dyn Store>) -> Result<Handle, StartError> {
        let (service, addresses) = Self::build(config, &*network, store).await?;
        Ok(Handle::spawn(addresses, |shutdown| service.run(shutdown)))
    }

    async fn build(
        config: Config,
        network: &dyn Network,
        mut store: Box<dyn Store>,
    ) -> Result<(Self, Addresses), StartError> {
        config.validate()?;
        let mut settings = settings(&config)?;
        let (stream, stream_address) = bind(network, "stream", config.stream).await?;
        let heartbeats = receive_heartbeats(network, stream_address);
        settings.heartbeat_port = heartbeats.as_ref().map(HeartbeatReceiver::port);
        let (http, http_address) = bind(network, "http", config.http).await?;
        let clock = Clock::start();
        let metrics = Arc::new(Metrics::new());
        let mut registry = Registry::replay(store.load().await?);
        let term = begin_term(&mut *store, &mut registry).await?;
        let mut state = State::new(settings, term, config.seed, metrics.clone());
        state.load(registry);
        let cold_starts = config.record.as_deref().map(|directory| record_cold_starts(directory, clock)).transpose()?;
        let (sender, cold_starts) = cold_starts.unzip();
        let (owner, handle, log) = Owner::new(state, clock, metrics, store, sender);
        let access = Access::new(&config)?;
        let token =
            config.auth.then(|| Token::read_or_create(&config.data_dir.join(CLUSTER_TOKEN_FILE))).transpose()?;
        let invoke_addresses = config.invoke_addresses;
        let service =
            Self { owner, handle, log, cold_starts, stream, heartbeats, http, invoke_addresses, access, token };
        Ok((service, Addresses { stream: stream_address, http: http_address }))
    }

    /// Serves until `shutdown`, then ends every connection and task.
    async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let stop = shutdown.child_token();
        let tasks = TaskTracker::new();
        if let Some((log, rows)) = self.cold_starts {
            tasks.spawn(log.run(rows, stop.clone()));
        }
        tasks.spawn(self.log.run());
        let (invoke_addresses, access) = (self.invoke_addresses.into(), Arc::new(self.access));
        let operators = http::Operators { owner: self.handle.clone(), invoke_addresses, access };
        tasks.spawn(http::serve(self.http, operators, stop.clone()));
        if let Some(heartbeats) = self.heartbeats {
            let (handle, stop) = (self.handle.clone(), stop.clone());
            let on_heartbeat = move |heartbeat, from: SocketAddr| {
                handle.heartbeats.note(heartbeat, Some(from.ip()), handle.clock.now_us())
            };
            tasks.spawn(async move { stop.run_until_cancelled_owned(heartbeats.run(on_heartbeat)).await });
        }
        let streams = Streams { owner: self.handle, tasks: tasks.clone(), shutdown: stop.clone() };
        let server = serve_streams(streams, self.stream, self.token);
        let stopped = self.owner.run(stop.clone()).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        match server.await {
            Ok(served) => served?,
            Err(stopped) => tracing::error!(%stopped, "the stream server ended badly"),
        }
        Ok(stopped?)
    }
}

fn settings(config: &Config) -> Result<Settings, ConfigError> {
    let (autoscale, placement) = config.policies()?;
    Ok(Settings {
        autoscale,
        placement,
        health: config.health.clone(),
        heartbeat_port: None,
        records: config.record.is_some(),
    })
}

/// Receives heartbeats as datagrams, beside the streams. Workers fall back to connections where this is impossible.
fn receive_heartbeats(network: &dyn Network, address: SocketAddr) -> Option<HeartbeatReceiver> {
    HeartbeatReceiver::bind(network, address)
        .inspect_err(|cause| tracing::info!(%address, %cause, "heartbeats come over connections only"))
        .ok()
}

/// Creates the record of cold starts, and the channel of its rows.
fn record_cold_starts(
    directory: &Path,
    clock: Clock,
) -> Result<(mpsc::Sender<Box<ColdStart>>, ColdStartWriter), StartError> {
    let (sender, rows) = mpsc::channel(MAX_WAITING_ROWS);
    Ok((sender, (ColdStartLog::create(directory, clock)?, rows)))
}

fn serve_streams(
    streams: Streams,
    listener: Box<dyn Listener>,
    token: Option<Token>,
) -> JoinHandle<Result<(), tonic::transport::Error>> {
    let stop = streams.shutdown.clone();
    let server = OrchestratorServer::new(streams).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES);
    let server = InterceptedService::new(server, Token::require(token));
    let serving = Incoming::server()
        .add_service(server)
        .serve_with_incoming_shutdown(Incoming::stream(listener), stop.cancelled_owned());
    tokio::spawn(serving)
}

/// Begins an epoch after the newest of the log, and a cluster if the log has none. Both are durable before the first
/// command of that epoch is sent.
async fn begin_term(store: &mut dyn Store, registry: &mut Registry) -> Result<Term, StoreError> {
    let epoch = Epoch(registry.epochs().newest().0 + 1);
    let nonce = api::random_epoch_nonce();
    let cluster = registry.cluster().unwrap_or_else(api::random_cluster);
    let begins = registry.cluster().is_none().then_some(Command::BeginCluster { id: cluster });
    let commands: Vec<_> = begins.into_iter().chain([Command::BeginEpoch { epoch, nonce }]).collect();
    let first = store.append(commands.clone()).await?;
    for (command, index) in commands.into_iter().zip(first..) {
        registry.apply(index, command);
    }
    Ok(Term { cluster, epoch, nonce })
}
