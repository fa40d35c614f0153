//! The stream to the control plane: finds the leader, passes its commands to the owner and the owner's events back, sends
//! heartbeats, and reconnects when the stream breaks.

use std::{convert::Infallible, sync::Arc, time::Duration};

use api::{
    Heartbeats, MAX_REFUSED_BACKOFF, NameConflict, Token, TokenSource, wire::orchestrator_client::OrchestratorClient,
};
use service::{Backoff, Network, Reconnect, SessionEnd, with_causes};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::transport::Channel;
use tracing::info;

use crate::{
    messages::{Commands, MessageError, Welcome},
    owner::Input,
    state::LeaderMismatch,
};

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
    Stream(#[from] api::SessionError),
    #[error("the control plane stopped acknowledging heartbeats")]
    HeartbeatsLost,
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
        let backoff = Backoff::new(INITIAL_BACKOFF, MAX_BACKOFF, self.seed);
        let mut reconnect = Reconnect::new(&self.control_planes, backoff, MAX_REFUSED_BACKOFF);
        let mut name_conflict = NameConflict::default();
        while !self.inputs.is_closed() {
            let address = reconnect.next_address();
            let mut welcomed = false;
            let error = self.serve(address, &mut welcomed).await;
            self.notify(Input::StreamClosed).await;
            if error.is_stream(api::SessionError::is_for_cluster) {
                self.notify(Input::OtherCluster).await;
            }
            if welcomed {
                name_conflict.on_welcome();
            } else if error.is_stream(api::SessionError::is_for_name) && name_conflict.on_refusal() {
                self.notify(Input::NameConflict).await;
            }
            // This worker closed the stream itself, so its end is no failure to log or to retry.
            if shutdown.is_cancelled() {
                return;
            }
            let end = match &error {
                _ if welcomed => SessionEnd::Lost,
                error if error.is_stream(api::SessionError::is_refusal) => SessionEnd::Refused,
                _ => SessionEnd::Failed,
            };
            let delay = name_conflict.next_attempt(reconnect.on_end(address, end, &with_causes(&error)));
            if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                return;
            }
        }
    }

    /// Keeps one stream from its opening to its end, and returns the reason of the end.
    async fn serve(&self, address: &str, welcomed: &mut bool) -> SessionError {
        match self.try_serve(address, welcomed).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_serve(&self, address: &str, welcomed: &mut bool) -> Result<Infallible, SessionError> {
        let channel = self.connect(address).await?;
        let token = self.token.token(address).map_err(api::SessionError::from)?;
        let (reply, messages) = oneshot::channel();
        self.send(Input::OpenStream(reply)).await?;
        let messages = messages.await.map_err(|_| SessionError::OwnerGone)?;
        let mut client = OrchestratorClient::new(channel).max_decoding_message_size(api::MAX_FIRST_MESSAGE_BYTES);
        let opening = client.connect_worker(Token::attach(token.as_ref(), messages));
        let (mut batch, mut commands) = api::handshake(opening).await?;
        let mut received = Instant::now();
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
            self.send(Input::Commands(Commands::from(batch), received)).await?;
            batch = tokio::select! {
                biased;
                batch = api::next_message(&mut commands) => batch?,
                _ended = &mut heartbeats => return Err(SessionError::HeartbeatsLost),
            };
            received = Instant::now();
        }
    }

    async fn connect(&self, address: &str) -> Result<Channel, api::SessionError> {
        let network = Arc::clone(&self.network);
        // Heartbeats as datagrams detect a failed control plane earlier than pings.
        let connected = match self.datagrams {
            true => api::connect_with_slow_pings(network, address).await,
            false => api::connect(network, address).await,
        };
        connected.map_err(Into::into)
    }

    async fn send(&self, input: Input) -> Result<(), SessionError> {
        self.inputs.send(input).await.map_err(|_| SessionError::OwnerGone)
    }

    /// As [`send`](Self::send), for an input that an owner that has ended does not need.
    async fn notify(&self, input: Input) {
        let _ = self.inputs.send(input).await;
    }
}

impl SessionError {
    /// Returns true if the stream itself failed, and `is_so`.
    fn is_stream(&self, is_so: impl FnOnce(&api::SessionError) -> bool) -> bool {
        matches!(self, Self::Stream(error) if is_so(error))
    }
}
