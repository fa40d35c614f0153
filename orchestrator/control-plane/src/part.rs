//! The control plane as a part: built with its ports bound, then run until told to stop.

use std::{io, net::SocketAddr, sync::Arc};

use api::{
    CLUSTER_TOKEN_FILE, HeartbeatReceiver, Incoming, Token, TokenError, wire::orchestrator_server::OrchestratorServer,
};
use model::Epoch;
use record::RecordError;
use service::{Clock, Listener, Network};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::interceptor::InterceptedService;

use crate::{
    Config, ConfigError,
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

/// A control plane could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be bound.
    #[error("cannot listen on {address} ({key})")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The command log cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A token that operators or peers show cannot be made or read.
    #[error("cannot keep tokens for operators and peers")]
    Token(#[from] TokenError),
    /// The record of cold starts cannot be written.
    #[error("cannot record cold starts")]
    Record(#[from] RecordError),
}

/// A running control plane had to end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The command log cannot be written, so nothing may be acknowledged.
    #[error("cannot write the command log")]
    Store(#[from] StoreError),
    /// The streams cannot be served.
    #[error("cannot serve streams")]
    Serve(#[from] tonic::transport::Error),
}

/// A control plane with its ports bound, that serves nothing yet.
pub struct Built {
    owner: Owner,
    handle: OwnerHandle,
    log: LogWriter,
    cold_starts: Option<(ColdStartLog, mpsc::Receiver<Box<record::ColdStart>>)>,
    stream: Box<dyn Listener>,
    heartbeats: Option<HeartbeatReceiver>,
    http: Box<dyn Listener>,
    stream_address: SocketAddr,
    http_address: SocketAddr,
    invoke_addresses: Vec<String>,
    access: Access,
    /// What peers show; `None`: whoever reaches the port is let in.
    token: Option<Token>,
}

/// Binds the ports, reads the command log, and begins a new epoch in it.
///
/// # Errors
/// When the configuration, a port, the command log or the record directory cannot be used.
pub async fn build(config: Config, network: Arc<dyn Network>, mut store: Box<dyn Store>) -> Result<Built, BuildError> {
    config.check()?;
    let mut settings = settings(&config)?;
    let (stream, stream_address) = bind(&*network, "stream", config.stream).await?;
    let heartbeats = receive_heartbeats(&*network, stream_address);
    settings.heartbeat_port = heartbeats.as_ref().map(HeartbeatReceiver::port);
    let (http, http_address) = bind(&*network, "http", config.http).await?;
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new());
    let mut registry = Registry::replay(store.load().await?);
    let term = begin_term(&mut *store, &mut registry).await?;
    let mut state = State::new(settings, term, config.seed, metrics.clone());
    state.load(registry);
    let cold_starts = match &config.record {
        Some(directory) => {
            let (sender, rows) = mpsc::channel(MAX_WAITING_ROWS);
            Some((sender, (ColdStartLog::create(directory, clock)?, rows)))
        }
        None => None,
    };
    let (sender, cold_starts) = cold_starts.unzip();
    let (owner, handle, log) = Owner::new(state, clock, metrics, store, sender);
    let access = Access::new(&config)?;
    let token = config.auth.then(|| Token::read_or_create(&config.data_dir.join(CLUSTER_TOKEN_FILE))).transpose()?;
    let invoke_addresses = config.invoke_addresses;
    let built = Built {
        owner,
        handle,
        log,
        cold_starts,
        stream,
        heartbeats,
        http,
        stream_address,
        http_address,
        invoke_addresses,
        access,
        token,
    };
    Ok(built)
}

impl Built {
    /// Where data planes and workers connect.
    #[must_use]
    pub fn stream_address(&self) -> SocketAddr {
        self.stream_address
    }

    /// Where operators connect.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Serves until `shutdown`, then ends every connection and task it made.
    ///
    /// # Errors
    /// When the command log cannot be written, or the streams cannot be served.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
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
            let heard = move |heartbeat, from: SocketAddr| {
                handle.heartbeats.note(heartbeat, Some(from.ip()), handle.clock.now_us())
            };
            tasks.spawn(async move { stop.run_until_cancelled_owned(heartbeats.run(heard)).await });
        }
        let streams = Streams { owner: self.handle, tasks: tasks.clone(), shutdown: stop.clone() };
        let service = OrchestratorServer::new(streams).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES);
        let service = InterceptedService::new(service, Token::require(self.token));
        let server = Incoming::server()
            .add_service(service)
            .serve_with_incoming_shutdown(Incoming::stream(self.stream), stop.clone().cancelled_owned());
        let server = tokio::spawn(server);
        let ended = self.owner.run(stop.clone()).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        match server.await {
            Ok(served) => served?,
            Err(stopped) => tracing::error!(%stopped, "the stream server ended badly"),
        }
        Ok(ended?)
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

/// Takes heartbeats as datagrams beside the streams. Workers do without where that cannot be.
fn receive_heartbeats(network: &dyn Network, address: SocketAddr) -> Option<HeartbeatReceiver> {
    HeartbeatReceiver::bind(network, address)
        .inspect_err(|cause| tracing::info!(%address, %cause, "heartbeats come over connections only"))
        .ok()
}

async fn bind(
    network: &dyn Network,
    key: &'static str,
    address: SocketAddr,
) -> Result<(Box<dyn Listener>, SocketAddr), BuildError> {
    let failed = |source| BuildError::Bind { key, address, source };
    let listener = network.bind(address).await.map_err(failed)?;
    let bound = listener.local_address().map_err(failed)?;
    Ok((listener, bound))
}

/// The cluster of the log, which an empty one begins, and the epoch after the newest in it: both are durable before the
/// first command of that epoch is sent.
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
