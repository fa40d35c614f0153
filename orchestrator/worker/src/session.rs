//! The connection to the control plane: finds the leader, passes its commands to the owner and the owner's events
//! back, sends heartbeats, and begins again when the link breaks.

use std::{sync::Arc, time::Duration};

use api::{
    Heartbeats, MAX_UNWANTED_PAUSE, NameTaken, Network, Token, TokenError, TokenSource, WireError, wire,
    wire::orchestrator_client::OrchestratorClient,
};
use model::Epoch;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Status, Streaming, transport::Channel};
use tracing::{info, warn};

use crate::{
    owner::Input,
    state::{Commander, WrongCommander},
};

/// Longest wait for a control plane to answer a hello with its welcome.
const WELCOME: Duration = Duration::from_secs(5);
/// First pause after no control plane took us. Recovery after a restart is measured in hundreds of milliseconds.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause: four attempts a second from each worker are no burden.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Keeps this worker connected.
pub(crate) struct Session {
    pub(crate) worker: String,
    /// Its process.
    pub(crate) instance: u64,
    /// Tried in this order.
    pub(crate) control_planes: Vec<String>,
    /// What opens the streams, where those ask for it.
    pub(crate) token: TokenSource,
    pub(crate) heartbeat: Duration,
    /// Whether heartbeats may go as datagrams.
    pub(crate) datagrams: bool,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) seed: u64,
}

/// A stream came to its end, or never began.
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
    #[error("no welcome within {WELCOME:?}")]
    Silent,
    #[error("the control plane does not answer heartbeats any more")]
    Unanswered,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    WrongCommander(#[from] WrongCommander),
    /// The owner has ended: so does the worker.
    #[error("the worker ends")]
    OwnerGone,
}

impl Session {
    /// Connects, and connects again, until the owner has ended or `shutdown` finds it without a connection.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut random = Pcg64::seed_from_u64(self.seed);
        let mut pause = FIRST_PAUSE;
        let mut retold = api::Retold::default();
        let mut is_unwanted = false;
        let mut name_taken = NameTaken::default();
        while !self.inputs.is_closed() {
            for address in &self.control_planes {
                let mut welcomed = false;
                let error = self.serve(address, &mut welcomed).await.err();
                // The owner forgets what belongs to the stream.
                let _ = self.inputs.send(Input::Closed).await;
                if error.as_ref().is_some_and(SessionError::is_other_cluster) {
                    let _ = self.inputs.send(Input::OtherCluster).await;
                }
                if welcomed {
                    name_taken.welcomed();
                } else if error.as_ref().is_some_and(SessionError::is_for_name) && name_taken.refused() {
                    let _ = self.inputs.send(Input::NameTaken).await;
                }
                is_unwanted = error.as_ref().is_some_and(SessionError::is_unwanted);
                let error = error.map_or_else(|| "ended".to_owned(), |error| api::with_causes(&error));
                // It ends by this worker's wish.
                if shutdown.is_cancelled() {
                    return;
                }
                if welcomed {
                    pause = FIRST_PAUSE;
                    retold.clear();
                    warn!(control_plane = %address, cause = %error, "the control plane is gone");
                } else if retold.is_due(address, &error) {
                    warn!(control_plane = %address, cause = %error, "no stream to the control plane (--control-plane, control_planes), trying again");
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = sleep(name_taken.next_attempt(pause.mul_f64(random.random_range(0.5..1.0)))) => {}
            }
            pause = (pause * 2).min(if is_unwanted { MAX_UNWANTED_PAUSE } else { LONGEST_PAUSE });
        }
    }

    /// One stream, from its opening to its end.
    async fn serve(&self, address: &str, welcomed: &mut bool) -> Result<(), SessionError> {
        let network = Arc::clone(&self.network);
        let channel = match self.datagrams {
            true => api::connect_quietly(network, address).await?,
            false => api::connect(network, address).await?,
        };
        let token = self.token.token(address)?;
        let mut commands = timeout(WELCOME, self.open(channel, token)).await.map_err(|_| SessionError::Silent)??;
        let first = timeout(WELCOME, commands.message()).await.map_err(|_| SessionError::Silent)?;
        let first = first.map_err(SessionError::Refused)?;
        let mut received = Instant::now();
        let mut batch = first.ok_or(SessionError::Closed)?;
        let (commander, heartbeat_port) = check_welcome(batch.welcome.take())?;
        let epoch = commander.epoch;
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Welcome(commander, reply)).await?;
        answer.await.map_err(|_| SessionError::OwnerGone)??;
        *welcomed = true;
        info!(control_plane = %address, epoch = epoch.0, "connected to the control plane");

        let heartbeats = Heartbeats {
            network: Arc::clone(&self.network),
            address: address.to_owned(),
            port: if self.datagrams { heartbeat_port } else { 0 },
            worker: self.worker.clone(),
            instance: self.instance,
            period: self.heartbeat,
            token: self.token.clone(),
        };
        let mut heartbeats = AbortOnDropHandle::new(tokio::spawn(heartbeats.run()));
        loop {
            self.tell(Input::Commands(batch, received)).await?;
            batch = tokio::select! {
                biased;
                batch = next(&mut commands) => batch?.ok_or(SessionError::Closed)?,
                _ended = &mut heartbeats => return Err(SessionError::Unanswered),
            };
            received = Instant::now();
        }
    }

    async fn open(&self, channel: Channel, token: Option<Token>) -> Result<Streaming<wire::ToWorker>, SessionError> {
        let (reply, messages) = oneshot::channel();
        self.tell(Input::Opening(reply)).await?;
        let messages = messages.await.map_err(|_| SessionError::OwnerGone)?;
        let mut client = OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_MESSAGE_BYTES);
        let request = Token::sign(token.as_ref(), messages);
        client.connect_worker(request).await.map(tonic::Response::into_inner).map_err(SessionError::Refused)
    }

    async fn tell(&self, input: Input) -> Result<(), SessionError> {
        self.inputs.send(input).await.map_err(|_| SessionError::OwnerGone)
    }
}

async fn next(commands: &mut Streaming<wire::ToWorker>) -> Result<Option<wire::ToWorker>, SessionError> {
    let batch = commands.message().await.map_err(SessionError::Broke)?;
    batch.as_ref().map_or(Ok(()), api::check_size)?;
    Ok(batch)
}

impl SessionError {
    /// Whether a control plane refused this worker because it is of another cluster.
    fn is_other_cluster(&self) -> bool {
        matches!(self, Self::Refused(status) if api::cluster_of_refusal(status).is_some())
    }

    /// Returns true if a control plane refused this worker because another process has its name.
    fn is_for_name(&self) -> bool {
        matches!(self, Self::Refused(status) if api::is_refused_for_name(status))
    }

    /// Whether a control plane answered and does not want this worker.
    fn is_unwanted(&self) -> bool {
        matches!(self, Self::Refused(status) if api::is_unwanted(status))
    }
}

/// Who the control plane is, and where it takes datagrams.
fn check_welcome(welcome: Option<wire::Welcome>) -> Result<(Commander, u32), WireError> {
    let welcome = welcome.ok_or(WireError::NoHello)?;
    if welcome.protocol_version != api::PROTOCOL_VERSION {
        return Err(WireError::Version { theirs: welcome.protocol_version, ours: api::PROTOCOL_VERSION });
    }
    let (cluster, epoch, nonce) = (welcome.cluster, Epoch(welcome.epoch), welcome.epoch_nonce);
    Ok((Commander { cluster, epoch, nonce }, welcome.heartbeat_port))
}
