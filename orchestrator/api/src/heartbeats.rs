//! Heartbeats of workers, both the sending and the receiving end.
//!
//! They are datagrams to the port of the control plane's streams. The receiver polls its socket, whereas a message on a
//! connection wakes the process: with heartbeats on connections, an idle control plane of thousands of workers uses
//! more than twice the CPU time. Where datagrams do not arrive, heartbeats use a stream on a connection of their own,
//! so that none queues behind a batch.
//!
//! A datagram now and then requests an acknowledgement, which shows first that datagrams arrive and later that the
//! control plane is alive.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use service::{Datagrams, Network};
use tokio::{
    net::lookup_host,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Token, TokenSource, connect,
    wire::{WorkerHeartbeat, orchestrator_client::OrchestratorClient},
};

/// Maximum size of a datagram: a worker's name and a few bytes.
const MAX_DATAGRAM_BYTES: usize = 512;
/// Maximum interval between two polls of the socket: a small part of the time after which a worker is suspect.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Number of datagrams per poll that the interval aims at. A socket buffer of the default size holds some 250.
const TARGET_PER_POLL: usize = 50;
/// Maximum number of datagrams per poll, so that other tasks run in between.
const MAX_PER_POLL: usize = 1000;
/// Periods after an acknowledgement during which no further one is requested.
const ACKNOWLEDGED_PERIODS: u32 = 3;
/// Periods without a first acknowledgement after which datagrams are assumed not to arrive. A worker is suspect after
/// six.
const FALLBACK_PERIODS: u32 = 4;
/// Periods between two ticks that show that this process was paused.
const PROCESS_PAUSE_PERIODS: u32 = 3;
/// Periods without an acknowledgement after which a control plane that acknowledged before is unresponsive.
const UNRESPONSIVE_PERIODS: u32 = 12;

/// The control plane's end: receives heartbeats as datagrams.
pub struct HeartbeatReceiver {
    socket: Box<dyn Datagrams>,
    port: u16,
}

impl HeartbeatReceiver {
    /// Binds `address`.
    ///
    /// # Errors
    /// If the address is in use, or `network` has no datagrams.
    pub fn bind(network: &dyn Network, address: SocketAddr) -> io::Result<Self> {
        let socket = network.datagrams(address)?;
        let port = socket.local_address()?.port();
        Ok(Self { socket, port })
    }

    /// Returns the port that is bound.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes each heartbeat and its sender's address to `on_heartbeat`, for ever. `on_heartbeat` returns true if the
    /// heartbeat is from a connected worker; only then it is acknowledged, if it requests that. Other datagrams and
    /// acknowledgements get no response: with a forged sender address, two receivers would send to each other, or this
    /// one to a third party.
    pub async fn run(self, mut on_heartbeat: impl FnMut(WorkerHeartbeat, SocketAddr) -> bool) {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let (mut last_poll, mut interval) = (Instant::now(), MAX_POLL_INTERVAL);
        loop {
            // A sleep rather than a wait for the socket, which would wake this process for each datagram.
            sleep(interval).await;
            // The datagrams of this poll arrived within this time.
            let elapsed = last_poll.elapsed();
            last_poll = Instant::now();
            let mut received = 0;
            while received < MAX_PER_POLL
                && let Ok(Some((length, from))) = self.socket.receive(&mut buffer)
            {
                received += 1;
                let bytes = &buffer[..length];
                // The port is open to every sender, so malformed datagrams are ignored.
                let Ok(heartbeat) = WorkerHeartbeat::decode(bytes) else { continue };
                if heartbeat.is_answer || heartbeat.worker.is_empty() {
                    continue;
                }
                let is_requested = heartbeat.answer;
                if on_heartbeat(heartbeat, from) && is_requested {
                    // A datagram that cannot be sent counts as lost: the worker requests the next acknowledgement.
                    let _ = self.socket.send(&acknowledgement(), from);
                }
            }
            interval = next_interval(received, elapsed);
        }
    }
}

/// The datagram that acknowledges a heartbeat. It is shorter than every heartbeat, so forged requests are not
/// amplified.
fn acknowledgement() -> Vec<u8> {
    WorkerHeartbeat { is_answer: true, ..Default::default() }.encode_to_vec()
}

/// Returns the time until the next poll, after `received` datagrams arrived in `elapsed`.
fn next_interval(received: usize, elapsed: Duration) -> Duration {
    elapsed.mul_f64(TARGET_PER_POLL as f64 / received.max(1) as f64).min(MAX_POLL_INTERVAL)
}

/// The worker's end: sends heartbeats.
#[derive(Clone)]
pub struct Heartbeats {
    /// The network on which the control plane is reached.
    pub network: Arc<dyn Network>,
    /// Address of its streams, `host:port`.
    pub address: String,
    /// Port on which it receives datagrams, from its welcome; 0 if it receives none.
    pub port: u32,
    /// The worker's name.
    pub worker: String,
    /// Random id of the worker's process, as in its hello.
    pub instance: u64,
    /// Time between two heartbeats.
    pub period: Duration,
    /// Token for heartbeats on a stream.
    pub token: TokenSource,
}

impl Heartbeats {
    /// Sends a heartbeat at once and every period. Returns when the control plane is unresponsive, which is detected
    /// only if datagrams arrive.
    pub async fn run(self) {
        let Some((socket, to)) = self.datagrams().await else { return self.over_streams().await };
        // The hello counts as a heartbeat, which leaves time to find out whether datagrams arrive.
        let (mut last_acknowledgement, mut do_datagrams_arrive) = (Instant::now(), false);
        let mut fallback: Option<AbortOnDropHandle<()>> = None;
        let mut ticks = interval(self.period);
        // Missed ticks are not made up for: several heartbeats at once say no more than one.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_tick = Instant::now();
        loop {
            ticks.tick().await;
            let since_tick = last_tick.elapsed();
            last_tick = Instant::now();
            if since_tick > self.period * PROCESS_PAUSE_PERIODS {
                // This process was paused, which does not mean that the control plane was unresponsive.
                last_acknowledgement += since_tick;
            }
            if receive_acknowledgements(&*socket) {
                // Datagrams arrive after all, so the connection of the fallback is closed.
                (last_acknowledgement, do_datagrams_arrive, fallback) = (Instant::now(), true, None);
            }
            let unacknowledged = last_acknowledgement.elapsed();
            let heartbeat =
                self.heartbeat(!do_datagrams_arrive || unacknowledged >= self.period * ACKNOWLEDGED_PERIODS);
            // A datagram that cannot be sent counts as lost.
            let _ = socket.send(&heartbeat.encode_to_vec(), to);
            if do_datagrams_arrive && unacknowledged >= self.period * UNRESPONSIVE_PERIODS {
                return;
            }
            if !do_datagrams_arrive && unacknowledged >= self.period * FALLBACK_PERIODS && fallback.is_none() {
                tracing::info!(%to, "datagrams are not acknowledged: sending heartbeats over a connection");
                fallback = Some(AbortOnDropHandle::new(tokio::spawn(self.clone().over_streams())));
            }
        }
    }

    /// Builds a heartbeat; `request_acknowledgement` asks the control plane to respond to it.
    fn heartbeat(&self, request_acknowledgement: bool) -> WorkerHeartbeat {
        let answer = request_acknowledgement;
        WorkerHeartbeat { worker: self.worker.clone(), answer, is_answer: false, instance: self.instance }
    }

    /// Returns a socket and the address to send to; `None` if datagrams cannot be used.
    async fn datagrams(&self) -> Option<(Box<dyn Datagrams>, SocketAddr)> {
        let port = u16::try_from(self.port).ok().filter(|port| *port != 0)?;
        let mut to = lookup_host(&self.address).await.ok()?.next()?;
        to.set_port(port);
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        Some((self.network.datagrams(any).ok()?, to))
    }

    /// Sends heartbeats on a stream, which is reopened whenever it ends, for ever.
    async fn over_streams(self) {
        let heartbeat = self.heartbeat(false);
        let Self { network, address, period, token, .. } = self;
        loop {
            if let Ok(channel) = connect::connect_with_slow_pings(Arc::clone(&network), &address).await {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let heartbeats = futures::stream::unfold((ticks, heartbeat.clone()), |(mut ticks, heartbeat)| async {
                    ticks.tick().await;
                    Some((heartbeat.clone(), (ticks, heartbeat)))
                });
                // Without a token the stream is refused. The owner of the worker's main stream logs the reason.
                let token = token.token(&address).ok().flatten();
                // The stream is reopened whatever ended it.
                let _ = OrchestratorClient::new(channel).heartbeat(Token::attach(token.as_ref(), heartbeats)).await;
            }
            sleep(period).await;
        }
    }
}

/// Returns true if an acknowledgement has arrived. Empties the socket's buffer.
fn receive_acknowledgements(socket: &dyn Datagrams) -> bool {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    let mut any = false;
    while let Ok(Some((length, _))) = socket.receive(&mut buffer) {
        any |= WorkerHeartbeat::decode(&buffer[..length]).is_ok_and(|heartbeat| heartbeat.is_answer);
    }
    any
}

#[cfg(test)]
mod tests;
