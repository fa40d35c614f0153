//! Keeps the stream to the control plane: connects, performs the handshake, applies messages, and reconnects when it
//! ends. Invocations that have a slot continue without it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use api::{
    MAX_FIRST_MESSAGE_BYTES, MAX_REFUSED_BACKOFF, NameConflict, PROTOCOL_VERSION, SessionError, Token, TokenSource,
    WireError, wire,
};
use model::SandboxId;
use service::{Backoff, Reconnect, SessionEnd, with_causes};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};
use wire::orchestrator_client::OrchestratorClient;

mod apply;
mod convert;

use crate::{function::Effects, plane::Plane, reports::ReportMessage};
use apply::{Applier, Membership};

/// Delay after the first failed connect; doubles with each further failure.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
/// Longest delay between attempts. Data planes find a restarted control plane as soon as workers do, since the first
/// cold start afterwards waits for both.
const MAX_BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause within a snapshot. The control plane may hang with a live connection, and until the snapshot is
/// complete the state of the granted sandboxes is unknown. It bounds the pause rather than the whole, because on a slow
/// link a new attempt would be as slow.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// The reason why a stream ended.
#[derive(Debug, Error)]
enum StreamError {
    #[error(transparent)]
    Session(SessionError),
    #[error("no further part of the snapshot for {} s", SNAPSHOT_TIMEOUT.as_secs())]
    Incomplete,
    /// The control plane is of another cluster or another log, so ids known here mean something else there.
    #[error("the control plane knows nothing of what is known here, which is dropped: {0}")]
    Stranger(String),
    #[error("epoch {theirs} is over: {newest} has been seen")]
    Outdated { theirs: u32, newest: u32 },
    /// The process was suspended, so messages on the stream may be stale and the stream may be over.
    #[error("this process was suspended")]
    StoodStill,
}

impl From<SessionError> for StreamError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Refused(status) if api::cluster_of_refusal(&status).is_some() => {
                Self::Stranger(status.message().to_owned())
            }
            other => Self::Session(other),
        }
    }
}

impl StreamError {
    fn session_end(&self, welcomed: bool) -> SessionEnd {
        match self {
            _ if welcomed => SessionEnd::Lost,
            Self::Session(error) if error.is_refusal() => SessionEnd::Refused,
            _ => SessionEnd::Failed,
        }
    }
}

/// Keeps a stream to one of the control planes until the reports are closed. `address` is where clients reach this data
/// plane.
pub(crate) async fn run(plane: Arc<Plane>, address: String, seed: u64) {
    let mut applier = Applier::new(plane.clone());
    let backoff = Backoff::new(INITIAL_BACKOFF, MAX_BACKOFF, seed);
    let mut reconnect = Reconnect::new(&plane.config.control_planes, backoff, MAX_REFUSED_BACKOFF);
    let mut name_conflict = NameConflict::default();
    loop {
        let control_plane = reconnect.next_address();
        let opened_us = plane.clock.now_us();
        let session = Session { plane: &plane, address: &address, control_plane, opened_us };
        let mut welcomed = false;
        let error = session.run(&mut applier, &mut welcomed).await;
        plane.trust.end(opened_us, plane.clock.now_us());
        if !plane.reports.end() {
            break;
        }
        if welcomed {
            name_conflict.on_welcome();
        }
        let is_for_name = matches!(&error, StreamError::Session(error) if error.is_for_name());
        let is_name_lost = is_for_name && name_conflict.on_refusal();
        if is_name_lost && applier.membership().is_some() {
            tracing::warn!("another process has this data plane's name: its sandboxes are no longer used");
        }
        if is_name_lost || matches!(error, StreamError::Stranger(_)) {
            applier.leave_cluster();
        }
        let delay = reconnect.on_end(control_plane, error.session_end(welcomed), &with_causes(&error));
        sleep(name_conflict.next_attempt(delay)).await;
    }
    // The data plane is shutting down. Returning would look like a failed task.
    std::future::pending().await
}

struct Session<'a> {
    plane: &'a Arc<Plane>,
    address: &'a str,
    control_plane: &'a str,
    /// Start of the attempt, microseconds.
    opened_us: u64,
}

impl Session<'_> {
    /// Runs one stream until it ends, and returns the reason of the end.
    async fn run(&self, applier: &mut Applier, welcomed: &mut bool) -> StreamError {
        match self.try_run(applier, welcomed).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_run(&self, applier: &mut Applier, welcomed: &mut bool) -> Result<Infallible, StreamError> {
        let (plane, opened_us) = (self.plane, self.opened_us);
        let channel = api::connect(plane.network.clone(), self.control_plane).await.map_err(SessionError::from)?;
        let source = TokenSource::new(plane.config.token_file.clone(), &plane.config.data_dir);
        let token = source.token(self.control_plane).map_err(SessionError::from)?;
        let mut client = OrchestratorClient::new(channel).max_decoding_message_size(MAX_FIRST_MESSAGE_BYTES);
        let (outbox, messages) = plane.reports.begin(plane.clock);
        let hello = self.hello(applier);
        outbox.update(|batch| batch.send_hello(ReportMessage::hello(hello)));
        let opening = client.connect_data_plane(Token::attach(token.as_ref(), messages));
        let (mut first, mut stream) = api::handshake(opening).await?;
        let welcome = first.welcome.take().ok_or(SessionError::Wire(WireError::NoHello))?;
        if welcome.protocol_version != PROTOCOL_VERSION {
            let error = WireError::Version { theirs: welcome.protocol_version, ours: PROTOCOL_VERSION };
            return Err(SessionError::Wire(error).into());
        }
        if let Some(membership) = applier.membership() {
            check_welcome(membership, &welcome)?;
        }
        *welcomed = true;
        tracing::info!(control_plane = self.control_plane, epoch = welcome.epoch, "connected to the control plane");
        plane.metrics.connected();
        applier.begin(welcome);
        // The message with the welcome may carry the first part of the snapshot.
        applier.apply(first);
        let mut snapshot_due = Instant::now() + SNAPSHOT_TIMEOUT;
        loop {
            if applier.is_complete() && !plane.trust.has_stream() && !plane.trust.begin(opened_us) {
                return Err(StreamError::StoodStill);
            }
            let message = tokio::select! {
                biased;
                () = plane.trust.stood_still_since(opened_us) => return Err(StreamError::StoodStill),
                () = sleep_until(snapshot_due), if !applier.is_complete() => return Err(StreamError::Incomplete),
                message = api::next_message(&mut stream) => message?,
            };
            applier.apply(message);
            snapshot_due = Instant::now() + SNAPSHOT_TIMEOUT;
        }
    }

    /// The hello: identity and held grants. From now on changes are collected for the new stream.
    fn hello(&self, applier: &Applier) -> wire::DataPlaneHello {
        let mut held = Vec::new();
        for function in self.plane.functions.all() {
            let id = function.id().0;
            let grants = function.change(|state, _, effects: &mut Effects| state.resync(effects));
            let on_wire = |(sandbox, slots): (SandboxId, u32)| wire::HeldGrant {
                function: id,
                sandbox: sandbox.to_wire(),
                slots,
            };
            held.extend(grants.into_iter().map(on_wire));
        }
        let membership = applier.membership();
        wire::DataPlaneHello {
            protocol_version: PROTOCOL_VERSION,
            data_plane: self.plane.config.name.clone(),
            address: self.address.to_owned(),
            cluster: membership.map_or_else(String::new, |membership| membership.cluster.clone()),
            instance: self.plane.instance,
            epoch: membership.map_or(0, |membership| membership.epoch),
            epoch_nonce: membership.map_or(0, |membership| membership.epoch_nonce),
            known: applier.known(),
            held,
        }
    }
}

/// Checks that a control plane continues the cluster and the log that this data plane knows.
fn check_welcome(membership: &Membership, welcome: &wire::Welcome) -> Result<(), StreamError> {
    let Membership { cluster, epoch, epoch_nonce } = membership;
    if welcome.cluster != *cluster {
        return Err(StreamError::Stranger(format!("it is of cluster {:?}", welcome.cluster)));
    }
    // A control plane of an older epoch was replaced; its grants may have been given to others since.
    if welcome.epoch < *epoch {
        return Err(StreamError::Outdated { theirs: welcome.epoch, newest: *epoch });
    }
    if welcome.epoch == *epoch && welcome.epoch_nonce != *epoch_nonce {
        return Err(StreamError::Stranger(format!("its epoch {} has another nonce", welcome.epoch)));
    }
    Ok(())
}
