//! Heartbeats of workers, both the sending and the receiving end.
//!
//! They are datagrams to the port of the control plane's streams. The receiver polls its socket, whereas a message on a
//! connection wakes the process: with heartbeats on connections, an idle control plane of thousands of workers uses more than
//! twice the CPU time. Where datagrams do not arrive, heartbeats use a stream on a connection of their own, so that none
//! queues behind a batch.
//!
//! A datagram now and then requests an acknowledgement, which shows first that datagrams arrive and later that the control
//! plane is alive.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use tokio::{
    net::lookup_host,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Datagrams, Network, Token, TokenSource, connect,
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
/// Periods without a first acknowledgement after which datagrams are assumed not to arrive. A worker is suspect after six.
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

    /// Passes each heartbeat and its sender's address to `on_heartbeat`, for ever. `on_heartbeat` returns true if the heartbeat
    /// is from a connected worker; only then it is acknowledged, if it requests that. Other datagrams and acknowledgements
    /// get no response: with a forged sender address, two receivers would send to each other, or this one to a third party.
    pub async fn run(self, mut on_heartbeat: impl FnMut(WorkerHeartbeat, SocketAddr) -> bool) {
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let (mut last_poll, mut interval) = (Instant::now(), MAX_POLL_INTERVAL);
        loop {
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

/// The datagram that acknowledges a heartbeat. It is shorter than every heartbeat, so forged requests are not amplified.
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
    /// Sends a heartbeat at once and every period. Returns when the control plane is unresponsive, which is detected only if
    /// datagrams arrive.
    pub async fn run(self) {
        let Some((socket, to)) = self.datagrams().await else { return self.over_streams().await };
        // The hello counts as a heartbeat, which leaves time to find out whether datagrams arrive.
        let (mut last_acknowledgement, mut do_datagrams_arrive) = (Instant::now(), false);
        let mut fallback: Option<AbortOnDropHandle<()>> = None;
        let mut ticks = interval(self.period);
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
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::{io::AsyncReadExt, net::TcpListener, sync::mpsc, time::timeout};

    use super::*;
    use crate::{ANY_LOOPBACK, OsNetwork};

    const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

    /// Sends heartbeats to the listener of streams and the port of datagrams.
    fn start(streams: &TcpListener, port: u16) -> AbortOnDropHandle<()> {
        let heartbeats = Heartbeats {
            network: Arc::new(OsNetwork),
            address: streams.local_addr().unwrap().to_string(),
            port: port.into(),
            worker: "w".to_owned(),
            instance: 7,
            period: Duration::from_millis(100),
            token: TokenSource::default(),
        };
        AbortOnDropHandle::new(tokio::spawn(heartbeats.run()))
    }

    /// Sends heartbeats to a receiver that does not run yet and a listener whose connections are not accepted yet.
    async fn start_with_receiver() -> (TcpListener, HeartbeatReceiver, AbortOnDropHandle<()>) {
        let streams = TcpListener::bind(ANY_LOOPBACK).await.unwrap();
        let receiver = HeartbeatReceiver::bind(&OsNetwork, ANY_LOOPBACK).unwrap();
        let heartbeats = start(&streams, receiver.port());
        (streams, receiver, heartbeats)
    }

    /// Runs the receiver; the channel yields the workers' names.
    fn receive(receiver: HeartbeatReceiver) -> (mpsc::UnboundedReceiver<String>, AbortOnDropHandle<()>) {
        let (received, names) = mpsc::unbounded_channel();
        let run = receiver.run(move |heartbeat, _| received.send(heartbeat.worker).is_ok());
        (names, AbortOnDropHandle::new(tokio::spawn(run)))
    }

    #[test]
    fn the_poll_interval_keeps_the_socket_buffer_from_filling() {
        let ms = Duration::from_millis;
        assert_eq!(next_interval(0, ms(50)), ms(50), "no worker");
        assert_eq!(next_interval(20, ms(50)), ms(50), "a hundred workers");
        assert_eq!(next_interval(1000, ms(50)), Duration::from_micros(2500), "five thousand");
        assert_eq!(
            next_interval(50, Duration::from_micros(2500)),
            Duration::from_micros(2500),
            "the interval is stable"
        );
    }

    /// A socket that yields a fixed number of datagrams at each poll.
    struct Counted {
        per_poll: usize,
        left: AtomicUsize,
        polls: Arc<AtomicUsize>,
    }

    impl Datagrams for Counted {
        fn send(&self, _: &[u8], _: SocketAddr) -> io::Result<()> {
            Ok(())
        }

        fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
            if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                let heartbeat = WorkerHeartbeat { worker: "w".to_owned(), ..Default::default() }.encode_to_vec();
                buffer[..heartbeat.len()].copy_from_slice(&heartbeat);
                return Ok(Some((heartbeat.len(), ANY_LOOPBACK)));
            }
            self.left.store(self.per_poll, Relaxed);
            let polls = self.polls.fetch_add(1, Relaxed);
            assert!(polls < 1000, "the receiver polls without a pause");
            Ok(None)
        }

        fn local_address(&self) -> io::Result<SocketAddr> {
            Ok(ANY_LOOPBACK)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_with_few_datagrams_polls_twenty_times_a_second() {
        for per_poll in [0, 1, 40] {
            let polls = Arc::new(AtomicUsize::new(0));
            let socket = Counted { per_poll, left: AtomicUsize::new(per_poll), polls: polls.clone() };
            let receiver = HeartbeatReceiver { socket: Box::new(socket), port: 1 };
            let _ = timeout(Duration::from_secs(10), receiver.run(|_, _| true)).await;
            let polls = polls.load(Relaxed);
            assert!((195..=201).contains(&polls), "{polls} polls within 10 s, with {per_poll} datagrams each");
        }
    }

    #[tokio::test]
    async fn unknown_workers_and_acknowledgements_get_no_response() {
        let receiver = HeartbeatReceiver::bind(&OsNetwork, ANY_LOOPBACK).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port()));
        let _receiving = AbortOnDropHandle::new(tokio::spawn(receiver.run(|heartbeat, _| heartbeat.worker == "known")));
        let socket = OsNetwork.datagrams(ANY_LOOPBACK).unwrap();
        let heartbeat = |worker: &str, is_answer| WorkerHeartbeat {
            worker: worker.to_owned(),
            answer: true,
            is_answer,
            instance: 1,
        };
        for (worker, is_answer) in [("unknown", false), ("known", true), ("", false), ("", true), ("known", false)] {
            socket.send(&heartbeat(worker, is_answer).encode_to_vec(), to).unwrap();
        }
        let mut acknowledgements = Vec::new();
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let first = async {
            while acknowledgements.is_empty() {
                sleep(Duration::from_millis(10)).await;
                while let Ok(Some((length, _))) = socket.receive(&mut buffer) {
                    acknowledgements.push(WorkerHeartbeat::decode(&buffer[..length]).unwrap());
                }
            }
        };
        // Datagrams arrive in order, so a response to an earlier one would have come first.
        timeout(WAIT_TIMEOUT, first).await.expect("a connected worker gets an acknowledgement");
        assert_eq!(acknowledgements, [WorkerHeartbeat { is_answer: true, ..Default::default() }]);
    }

    #[tokio::test]
    async fn no_connection_is_opened_while_datagrams_arrive() {
        let (streams, receiver, _heartbeats) = start_with_receiver().await;
        let (mut names, _receiving) = receive(receiver);
        for _ in 0..12 {
            let name = timeout(WAIT_TIMEOUT, names.recv()).await.unwrap();
            assert_eq!(name.as_deref(), Some("w"));
        }
        assert!(timeout(Duration::ZERO, streams.accept()).await.is_err(), "no connection was opened");
    }

    #[tokio::test]
    async fn a_stream_is_the_fallback_while_datagrams_are_not_acknowledged() {
        let (streams, receiver, _heartbeats) = start_with_receiver().await;
        let (mut stream, _) = timeout(WAIT_TIMEOUT, streams.accept()).await.expect("a connection is opened").unwrap();
        let (mut names, _receiving) = receive(receiver);
        assert_eq!(timeout(WAIT_TIMEOUT, names.recv()).await.unwrap().as_deref(), Some("w"));
        let ended = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(WAIT_TIMEOUT, ended).await.expect("the connection ends once datagrams are acknowledged");
    }

    #[tokio::test]
    async fn heartbeats_end_when_acknowledgements_stop() {
        let (streams, receiver, heartbeats) = start_with_receiver().await;
        let (mut names, receiving) = receive(receiver);
        for _ in 0..6 {
            timeout(WAIT_TIMEOUT, names.recv()).await.unwrap().unwrap();
        }
        assert!(!heartbeats.is_finished(), "heartbeats are acknowledged");
        drop(receiving);
        timeout(WAIT_TIMEOUT, heartbeats).await.expect("the missing acknowledgements are detected").unwrap();
        assert!(timeout(Duration::ZERO, streams.accept()).await.is_err(), "no connection was opened");
    }

    #[tokio::test]
    async fn without_a_datagram_port_a_stream_is_opened_at_once() {
        let streams = TcpListener::bind(ANY_LOOPBACK).await.unwrap();
        let _heartbeats = start(&streams, 0);
        timeout(WAIT_TIMEOUT, streams.accept()).await.expect("a connection is opened").unwrap();
    }

    #[tokio::test]
    async fn malformed_datagrams_are_no_heartbeats() {
        let receiver = HeartbeatReceiver::bind(&OsNetwork, ANY_LOOPBACK).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port()));
        let socket = OsNetwork.datagrams(ANY_LOOPBACK).unwrap();
        let mut heartbeat = WorkerHeartbeat { worker: "w".to_owned(), ..Default::default() }.encode_to_vec();
        for bytes in [&[0xff; 600][..], &[], b"GET / HTTP/1.1"] {
            socket.send(bytes, to).unwrap();
        }
        socket.send(&heartbeat, to).unwrap();
        heartbeat.truncate(2);
        socket.send(&heartbeat, to).unwrap();
        let (mut names, _receiving) = receive(receiver);
        let first = timeout(WAIT_TIMEOUT, names.recv()).await.unwrap();
        assert_eq!(first.as_deref(), Some("w"));
    }
}
