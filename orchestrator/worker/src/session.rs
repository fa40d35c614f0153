//! The stream to the control plane: finds the leader, passes its commands to the owner and the owner's events back, sends
//! heartbeats, and reconnects when the stream breaks.

use std::{sync::Arc, time::Duration};

use api::{
    Heartbeats, MAX_REFUSED_BACKOFF, NameConflict, Token, TokenError, TokenSource, WireError, wire,
    wire::orchestrator_client::OrchestratorClient,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use service::Network;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Status, Streaming, transport::Channel};
use tracing::{info, warn};

use crate::{
    messages::{Commands, MessageError, Welcome},
    owner::Input,
    state::LeaderMismatch,
};

/// Longest wait for the welcome of a control plane after the hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// First pause after no control plane accepted this worker. Short, because recovery after a restart of the control plane
/// takes hundreds of milliseconds.
const INITIAL_BACKOFF: Duration = Duration::from_millis(10);
/// Longest pause. A control plane can afford four attempts per second from each worker.
const MAX_BACKOFF: Duration = Duration::from_millis(250);

/// Keeps this worker connected to the leader.
pub(crate) struct Session {
    pub(crate) worker: String,
    /// As in [`Identity::instance`](crate::hello::Identity::instance).
    pub(crate) instance: u64,
    /// Tried in this order.
    pub(crate) control_planes: Vec<String>,
    /// The token for streams that require one.
    pub(crate) token: TokenSource,
    pub(crate) heartbeat: Duration,
    /// Heartbeats may go as datagrams.
    pub(crate) datagrams: bool,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) seed: u64,
}

/// A stream ended or could not be opened.
#[derive(Debug, Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] api::ConnectError),
    #[error("no token for the control plane")]
    Token(#[from] TokenError),
    #[error("{}", api::describe_refusal(.0))]
    Refused(Status),
    #[error("the stream broke: {}", .0.message())]
    Broke(Status),
    #[error("the control plane closed the stream")]
    Closed,
    #[error("no welcome within {WELCOME_TIMEOUT:?}")]
    NoWelcome,
    #[error("the control plane stopped acknowledging heartbeats")]
    HeartbeatsLost,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    LeaderMismatch(#[from] LeaderMismatch),
    /// The owner ends only when the worker shuts down.
    #[error("the worker is shutting down")]
    OwnerGone,
}

impl Session {
    /// Connects and reconnects until the owner has ended, or until `shutdown` while no stream is open.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut random = Pcg64::seed_from_u64(self.seed);
        let mut backoff = INITIAL_BACKOFF;
        let mut log_limiter = service::LogLimiter::default();
        let mut is_refusal = false;
        let mut name_conflict = NameConflict::default();
        while !self.inputs.is_closed() {
            for address in &self.control_planes {
                let mut welcomed = false;
                let error = self.serve(address, &mut welcomed).await.err();
                let _ = self.inputs.send(Input::StreamClosed).await;
                if error.as_ref().is_some_and(SessionError::is_other_cluster) {
                    let _ = self.inputs.send(Input::OtherCluster).await;
                }
                if welcomed {
                    name_conflict.on_welcome();
                } else if error.as_ref().is_some_and(SessionError::is_for_name) && name_conflict.on_refusal() {
                    let _ = self.inputs.send(Input::NameConflict).await;
                }
                is_refusal = error.as_ref().is_some_and(SessionError::is_refusal);
                let error = error.map_or_else(|| "ended".to_owned(), |error| service::with_causes(&error));
                // This worker closed the stream itself, so its end is no failure to log or to retry.
                if shutdown.is_cancelled() {
                    return;
                }
                if welcomed {
                    backoff = INITIAL_BACKOFF;
                    log_limiter.clear();
                    warn!(control_plane = %address, cause = %error, "the control plane is gone");
                } else if log_limiter.should_log(address, &error) {
                    warn!(control_plane = %address, cause = %error, "no stream to the control plane (--control-plane, control_planes), trying again");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = sleep(name_conflict.next_attempt(backoff.mul_f64(random.random_range(0.5..1.0)))) => {}
            }
            backoff = (backoff * 2).min(if is_refusal { MAX_REFUSED_BACKOFF } else { MAX_BACKOFF });
        }
    }

    /// One stream, from its opening to its end.
    async fn serve(&self, address: &str, welcomed: &mut bool) -> Result<(), SessionError> {
        let network = Arc::clone(&self.network);
        let channel = match self.datagrams {
            true => api::connect_with_slow_pings(network, address).await?,
            false => api::connect(network, address).await?,
        };
        let token = self.token.token(address)?;
        let mut commands =
            timeout(WELCOME_TIMEOUT, self.open(channel, token)).await.map_err(|_| SessionError::NoWelcome)??;
        let first = timeout(WELCOME_TIMEOUT, commands.message()).await.map_err(|_| SessionError::NoWelcome)?;
        let first = first.map_err(SessionError::Refused)?;
        let mut received = Instant::now();
        let mut batch = first.ok_or(SessionError::Closed)?;
        let Welcome { leader, heartbeat_port } = batch.welcome.take().try_into()?;
        let (reply, outcome) = oneshot::channel();
        self.send(Input::Welcome(leader, reply)).await?;
        outcome.await.map_err(|_| SessionError::OwnerGone)??;
        *welcomed = true;
        info!(control_plane = %address, epoch = leader.epoch.0, "connected to the control plane");

        let heartbeats = Heartbeats {
            network: Arc::clone(&self.network),
            address: address.to_owned(),
            port: heartbeat_port.filter(|_| self.datagrams).map_or(0, u32::from),
            worker: self.worker.clone(),
            instance: self.instance,
            period: self.heartbeat,
            token: self.token.clone(),
        };
        let mut heartbeats = AbortOnDropHandle::new(tokio::spawn(heartbeats.run()));
        loop {
            self.send(Input::Commands(Commands::try_from(batch)?, received)).await?;
            batch = tokio::select! {
                biased;
                batch = next(&mut commands) => batch?.ok_or(SessionError::Closed)?,
                _ended = &mut heartbeats => return Err(SessionError::HeartbeatsLost),
            };
            received = Instant::now();
        }
    }

    async fn open(&self, channel: Channel, token: Option<Token>) -> Result<Streaming<wire::ToWorker>, SessionError> {
        let (reply, messages) = oneshot::channel();
        self.send(Input::OpenStream(reply)).await?;
        let messages = messages.await.map_err(|_| SessionError::OwnerGone)?;
        let mut client = OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES);
        let request = Token::attach(token.as_ref(), messages);
        client.connect_worker(request).await.map(tonic::Response::into_inner).map_err(SessionError::Refused)
    }

    async fn send(&self, input: Input) -> Result<(), SessionError> {
        self.inputs.send(input).await.map_err(|_| SessionError::OwnerGone)
    }
}

async fn next(commands: &mut Streaming<wire::ToWorker>) -> Result<Option<wire::ToWorker>, SessionError> {
    let batch = commands.message().await.map_err(SessionError::Broke)?;
    batch.as_ref().map_or(Ok(()), api::check_size)?;
    Ok(batch)
}

impl SessionError {
    /// Returns true if a control plane refused this worker because the worker belongs to another cluster.
    fn is_other_cluster(&self) -> bool {
        matches!(self, Self::Refused(status) if api::cluster_of_refusal(status).is_some())
    }

    /// Returns true if a control plane refused this worker because another process has its name.
    fn is_for_name(&self) -> bool {
        matches!(self, Self::Refused(status) if api::is_name_conflict(status))
    }

    /// Returns true if a control plane responded and does not want this worker.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(status) if api::is_refusal(status))
    }
}
