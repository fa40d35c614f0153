//! Keeps the stream to the control plane: connects, performs the handshake, applies messages, and reconnects when it
//! ends. Invocations that have a slot continue without it.

use std::{sync::Arc, time::Duration};

use api::{
    ConnectError, MAX_FIRST_MESSAGE_BYTES, MAX_REFUSED_BACKOFF, NameConflict, PROTOCOL_VERSION, Token, TokenError,
    TokenSource, WireError, wire,
};
use model::SandboxId;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout};
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
/// Deadline of the handshake, after which the peer is taken for unresponsive.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest pause within a snapshot. The control plane may hang with a live connection, and until the snapshot is
/// complete the state of the granted sandboxes is unknown. It bounds the pause rather than the whole, because on a slow
/// link a new attempt would be as slow.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// The reason why a stream ended.
#[derive(Debug, Error)]
enum StreamError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no token for the control plane")]
    Token(#[from] TokenError),
    #[error("{}", api::describe_refusal(.0))]
    Refused(tonic::Status),
    #[error("the stream broke: {}", .0.message())]
    Broke(tonic::Status),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("no welcome within {} s", WELCOME_TIMEOUT.as_secs())]
    Silent,
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
    #[error("the control plane closed the stream")]
    Closed,
}

impl StreamError {
    /// Returns true if a control plane responded that it does not accept this data plane.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(status) if api::is_refusal(status))
    }

    /// Returns true if a control plane refused this data plane because another process has its name.
    fn is_for_name(&self) -> bool {
        matches!(self, Self::Refused(status) if api::is_name_conflict(status))
    }
}

/// Keeps a stream to one of the control planes until the reports are closed. `address` is where clients reach this data
/// plane.
pub(crate) async fn run(plane: Arc<Plane>, address: String, seed: u64) {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut applier = Applier::new(plane.clone());
    let mut back_off = INITIAL_BACKOFF;
    let mut log_limiter = service::LogLimiter::default();
    let mut name_conflict = NameConflict::default();
    // Each attempt tries the next control plane, since the last one may be away.
    for control_plane in plane.config.control_planes.iter().cycle() {
        let opened_us = plane.clock.now_us();
        let session = Session { plane: &plane, address: &address, control_plane, opened_us };
        let mut welcomed = false;
        let end = session.run(&mut applier, &mut welcomed).await;
        plane.trust.end(opened_us, plane.clock.now_us());
        if !plane.reports.end() {
            break;
        }
        if welcomed {
            back_off = INITIAL_BACKOFF;
            log_limiter.clear();
            name_conflict.on_welcome();
        }
        let is_name_lost = end.is_for_name() && name_conflict.on_refusal();
        if is_name_lost && applier.membership().is_some() {
            tracing::warn!("another process has this data plane's name: its sandboxes are no longer used");
        }
        if is_name_lost || matches!(end, StreamError::Stranger(_)) {
            applier.leave_cluster();
        }
        // Logged only when it changes, because reconnects are frequent.
        let reason = service::with_causes(&end);
        if log_limiter.should_log(control_plane, &reason) {
            tracing::warn!(
                control_plane,
                cause = reason,
                "no stream to the control plane (--control-plane, control_planes), trying again"
            );
        }
        // Half of the delay is jitter, so that many data planes do not reconnect in step.
        let pause = back_off.mul_f64(random.random_range(0.5..1.0));
        sleep(name_conflict.next_attempt(pause)).await;
        back_off = (back_off * 2).min(if end.is_refusal() { MAX_REFUSED_BACKOFF } else { MAX_BACKOFF });
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
    /// Runs one stream until it ends.
    async fn run(&self, applier: &mut Applier, welcomed: &mut bool) -> StreamError {
        match self.carry(applier, welcomed).await {
            Ok(()) => StreamError::Closed,
            Err(error) => error,
        }
    }

    async fn carry(&self, applier: &mut Applier, welcomed: &mut bool) -> Result<(), StreamError> {
        let (plane, opened_us) = (self.plane, self.opened_us);
        let channel = api::connect(plane.network.clone(), self.control_plane).await?;
        let source = TokenSource::new(plane.config.token_file.clone(), &plane.config.data_dir);
        let token = source.token(self.control_plane)?;
        let mut client = OrchestratorClient::new(channel).max_decoding_message_size(MAX_FIRST_MESSAGE_BYTES);
        let (outbox, messages) = plane.reports.begin(plane.clock);
        let hello = self.hello(applier);
        outbox.update(|batch| batch.send_hello(ReportMessage::hello(hello)));
        let opened = timeout(WELCOME_TIMEOUT, client.connect_data_plane(Token::attach(token.as_ref(), messages)));
        let mut stream = opened.await.map_err(|_| StreamError::Silent)?.map_err(refused)?.into_inner();
        let first = timeout(WELCOME_TIMEOUT, stream.message()).await.map_err(|_| StreamError::Silent)?;
        let mut first = first.map_err(refused)?.ok_or(StreamError::Closed)?;
        let welcome = first.welcome.take().ok_or(WireError::NoHello)?;
        if welcome.protocol_version != PROTOCOL_VERSION {
            return Err(WireError::Version { theirs: welcome.protocol_version, ours: PROTOCOL_VERSION }.into());
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
                message = stream.message() => message.map_err(StreamError::Broke)?,
            };
            let Some(message) = message else { return Ok(()) };
            api::check_size(&message)?;
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

fn refused(status: tonic::Status) -> StreamError {
    match api::cluster_of_refusal(&status) {
        Some(_) => StreamError::Stranger(status.message().to_owned()),
        None => StreamError::Refused(status),
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
