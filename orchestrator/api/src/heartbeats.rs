//! Heartbeats of workers, from both ends.
//!
//! They go as datagrams, to the port of the control plane's streams: whoever takes them looks every now and then, where a
//! message on a connection wakes its process: with them on connections an idle control plane of thousands of workers takes
//! more than twice the CPU time. Where datagrams do not arrive they go over a stream of their own, on a
//! connection of its own, so that none queues behind a batch.
//!
//! One datagram of a few is asked back: so it is known whether they arrive, and later whether the control plane lives.

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

/// Longest datagram: a worker's name and a few bytes.
const LONGEST_BYTES: usize = 512;
/// Longest wait between two looks. A worker is suspected after many times as long.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// The wait is so long that about so many come meanwhile: a socket's buffer holds some 250 where nothing was configured.
const AT_A_LOOK: usize = 50;
/// Taken up in one look; others get a turn before the next.
const MOST_AT_ONCE: usize = 1000;
/// Periods after an answer in which none is asked for.
const CONTENT_PERIODS: u32 = 3;
/// Datagrams do not arrive when none has come back for so many periods from the beginning. A worker is suspected after
/// six.
const UNPROVEN_PERIODS: u32 = 4;
/// A tick that comes after more than so many periods was held up with all of this process.
const JUMP_PERIODS: u32 = 3;
/// A control plane that has answered before and has not for so many periods is gone.
const SILENT_PERIODS: u32 = 12;

/// Takes heartbeats as datagrams.
pub struct HeartbeatReceiver {
    socket: Box<dyn Datagrams>,
    port: u16,
}

impl HeartbeatReceiver {
    /// Receives on `address`.
    ///
    /// # Errors
    /// When it is taken, or `network` has no datagrams.
    pub fn bind(network: &dyn Network, address: SocketAddr) -> io::Result<Self> {
        let socket = network.datagrams(address)?;
        let port = socket.local_address()?.port();
        Ok(Self { socket, port })
    }

    /// The port it receives on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Hands each heartbeat and where it came from to `heard`, for ever. What `heard` says is from a connected worker is
    /// answered, if an answer is wanted; nothing else is, and no answer: whoever forges an address could make two
    /// receivers talk to each other, or this one to somebody who never asked.
    pub async fn run(self, mut heard: impl FnMut(WorkerHeartbeat, SocketAddr) -> bool) {
        let mut buffer = [0; LONGEST_BYTES];
        let (mut looked, mut pause) = (Instant::now(), LONGEST_WAIT);
        loop {
            sleep(pause).await;
            // From one look to the next: what is taken now came within this time.
            let elapsed = looked.elapsed();
            looked = Instant::now();
            let mut taken = 0;
            while taken < MOST_AT_ONCE
                && let Ok(Some((length, from))) = self.socket.receive(&mut buffer)
            {
                taken += 1;
                let bytes = &buffer[..length];
                // What is no heartbeat is somebody else's mistake, and of no consequence.
                let Ok(heartbeat) = WorkerHeartbeat::decode(bytes) else { continue };
                if heartbeat.is_answer || heartbeat.worker.is_empty() {
                    continue;
                }
                let wants_answer = heartbeat.answer;
                if heard(heartbeat, from) && wants_answer {
                    // A lost answer is like a lost question.
                    let _ = self.socket.send(&answer(), from);
                }
            }
            pause = wait(taken, elapsed);
        }
    }
}

/// The answer to a heartbeat: shorter than any of them.
fn answer() -> Vec<u8> {
    WorkerHeartbeat { is_answer: true, ..Default::default() }.encode_to_vec()
}

/// Until the next look, after `taken` came in `elapsed`.
fn wait(taken: usize, elapsed: Duration) -> Duration {
    elapsed.mul_f64(AT_A_LOOK as f64 / taken.max(1) as f64).min(LONGEST_WAIT)
}

/// The heartbeats of one worker.
#[derive(Clone)]
pub struct Heartbeats {
    /// How to reach the control plane.
    pub network: Arc<dyn Network>,
    /// Where its streams are, `host:port`.
    pub address: String,
    /// Where it takes datagrams, from its welcome; 0: nowhere.
    pub port: u32,
    /// The worker's name.
    pub worker: String,
    /// Its process, as in its hello.
    pub instance: u64,
    /// Time between two.
    pub period: Duration,
    /// What opens the streams, where those ask for it.
    pub token: TokenSource,
}

impl Heartbeats {
    /// Gives one at once and every period. Ends when the control plane has fallen silent, which only one that answers
    /// datagrams can.
    pub async fn run(self) {
        let Some((socket, to)) = self.datagrams().await else { return self.over_streams().await };
        // The hello was a heartbeat, so there is time to see whether datagrams arrive.
        let (mut answered, mut proven) = (Instant::now(), false);
        let mut stand_in: Option<AbortOnDropHandle<()>> = None;
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticked = Instant::now();
        loop {
            ticks.tick().await;
            let since_tick = ticked.elapsed();
            ticked = Instant::now();
            if since_tick > self.period * JUMP_PERIODS {
                // This process stood still: nobody was silent meanwhile, as far as it can tell.
                answered += since_tick;
            }
            if came_back(&*socket) {
                (answered, proven, stand_in) = (Instant::now(), true, None);
            }
            let unanswered = answered.elapsed();
            let heartbeat = self.heartbeat(!proven || unanswered >= self.period * CONTENT_PERIODS);
            // A datagram that is not sent is like one that is lost.
            let _ = socket.send(&heartbeat.encode_to_vec(), to);
            if proven && unanswered >= self.period * SILENT_PERIODS {
                return;
            }
            if !proven && unanswered >= self.period * UNPROVEN_PERIODS && stand_in.is_none() {
                tracing::info!(%to, "datagrams are not answered: heartbeats go over a connection");
                stand_in = Some(AbortOnDropHandle::new(tokio::spawn(self.clone().over_streams())));
            }
        }
    }

    /// One heartbeat; with `answer`, one that is to be answered.
    fn heartbeat(&self, answer: bool) -> WorkerHeartbeat {
        WorkerHeartbeat { worker: self.worker.clone(), answer, is_answer: false, instance: self.instance }
    }

    /// A socket, and where to send to.
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

    /// Gives them over one stream after another, for ever.
    async fn over_streams(self) {
        let heartbeat = self.heartbeat(false);
        let Self { network, address, period, token, .. } = self;
        loop {
            if let Ok(channel) = connect::connect_quietly(Arc::clone(&network), &address).await {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let heartbeats = futures::stream::unfold((ticks, heartbeat.clone()), |(mut ticks, heartbeat)| async {
                    ticks.tick().await;
                    Some((heartbeat.clone(), (ticks, heartbeat)))
                });
                // Without one it is refused, which is said where the other stream is.
                let token = token.token(&address).ok().flatten();
                // However it ended, there is another one after this.
                let _ = OrchestratorClient::new(channel).heartbeat(Token::sign(token.as_ref(), heartbeats)).await;
            }
            sleep(period).await;
        }
    }
}

/// Whether an answer has come.
fn came_back(socket: &dyn Datagrams) -> bool {
    let mut buffer = [0; LONGEST_BYTES];
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

    /// Sends heartbeats to whoever has the other end of `streams` and of the port.
    fn begin(streams: &TcpListener, port: u16) -> AbortOnDropHandle<()> {
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

    /// Sends heartbeats to a receiver that does not receive yet, beside streams that nobody takes yet.
    async fn begin_beside_a_receiver() -> (TcpListener, HeartbeatReceiver, AbortOnDropHandle<()>) {
        let streams = TcpListener::bind(ANY_LOOPBACK).await.unwrap();
        let receiver = HeartbeatReceiver::bind(&OsNetwork, ANY_LOOPBACK).unwrap();
        let heartbeats = begin(&streams, receiver.port());
        (streams, receiver, heartbeats)
    }

    /// Receives datagrams; the names come out of the channel.
    fn receive(receiver: HeartbeatReceiver) -> (mpsc::UnboundedReceiver<String>, AbortOnDropHandle<()>) {
        let (heard, names) = mpsc::unbounded_channel();
        let run = receiver.run(move |heartbeat, _| heard.send(heartbeat.worker).is_ok());
        (names, AbortOnDropHandle::new(tokio::spawn(run)))
    }

    #[test]
    fn looks_are_as_frequent_as_the_buffer_is_small() {
        let ms = Duration::from_millis;
        assert_eq!(wait(0, ms(50)), ms(50), "nobody is there");
        assert_eq!(wait(20, ms(50)), ms(50), "a hundred workers");
        assert_eq!(wait(1000, ms(50)), Duration::from_micros(2500), "five thousand");
        assert_eq!(wait(50, Duration::from_micros(2500)), Duration::from_micros(2500), "it stays like that");
    }

    /// A socket on which a number of datagrams is found at each look.
    struct Counted {
        at_a_look: usize,
        left: AtomicUsize,
        looks: Arc<AtomicUsize>,
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
            self.left.store(self.at_a_look, Relaxed);
            let looks = self.looks.fetch_add(1, Relaxed);
            assert!(looks < 1000, "it looks all the time");
            Ok(None)
        }

        fn local_address(&self) -> io::Result<SocketAddr> {
            Ok(ANY_LOOPBACK)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_receiver_looks_twenty_times_a_second() {
        for at_a_look in [0, 1, 40] {
            let looks = Arc::new(AtomicUsize::new(0));
            let socket = Counted { at_a_look, left: AtomicUsize::new(at_a_look), looks: looks.clone() };
            let receiver = HeartbeatReceiver { socket: Box::new(socket), port: 1 };
            let _ = timeout(Duration::from_secs(10), receiver.run(|_, _| true)).await;
            let looks = looks.load(Relaxed);
            assert!((195..=201).contains(&looks), "{looks} looks within 10 s, with {at_a_look} datagrams each");
        }
    }

    #[tokio::test]
    async fn strangers_and_answers_are_not_answered() {
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
        let mut answers = Vec::new();
        let mut buffer = [0; LONGEST_BYTES];
        let first = async {
            while answers.is_empty() {
                sleep(Duration::from_millis(10)).await;
                while let Ok(Some((length, _))) = socket.receive(&mut buffer) {
                    answers.push(WorkerHeartbeat::decode(&buffer[..length]).unwrap());
                }
            }
        };
        // The last one is answered, so those before it were not.
        timeout(WAIT_TIMEOUT, first).await.expect("a connected worker is answered");
        assert_eq!(answers, [WorkerHeartbeat { is_answer: true, ..Default::default() }]);
    }

    #[tokio::test]
    async fn datagrams_that_arrive_are_all_there_is() {
        let (streams, receiver, _heartbeats) = begin_beside_a_receiver().await;
        let (mut names, _receiving) = receive(receiver);
        for _ in 0..12 {
            let name = timeout(WAIT_TIMEOUT, names.recv()).await.unwrap();
            assert_eq!(name.as_deref(), Some("w"));
        }
        assert!(timeout(Duration::ZERO, streams.accept()).await.is_err(), "no connection was opened");
    }

    #[tokio::test]
    async fn a_stream_stands_in_while_datagrams_are_not_answered() {
        let (streams, receiver, _heartbeats) = begin_beside_a_receiver().await;
        let (mut stream, _) = timeout(WAIT_TIMEOUT, streams.accept()).await.expect("a connection is opened").unwrap();
        let (mut names, _receiving) = receive(receiver);
        assert_eq!(timeout(WAIT_TIMEOUT, names.recv()).await.unwrap().as_deref(), Some("w"));
        let ended = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
        timeout(WAIT_TIMEOUT, ended).await.expect("the connection ends once datagrams are answered");
    }

    #[tokio::test]
    async fn a_control_plane_that_answered_and_fell_silent_is_gone() {
        let (streams, receiver, heartbeats) = begin_beside_a_receiver().await;
        let (mut names, receiving) = receive(receiver);
        for _ in 0..6 {
            timeout(WAIT_TIMEOUT, names.recv()).await.unwrap().unwrap();
        }
        assert!(!heartbeats.is_finished(), "it is answered");
        drop(receiving);
        timeout(WAIT_TIMEOUT, heartbeats).await.expect("the silence is noticed").unwrap();
        assert!(timeout(Duration::ZERO, streams.accept()).await.is_err(), "no connection was opened");
    }

    #[tokio::test]
    async fn where_nobody_takes_datagrams_there_is_a_stream_at_once() {
        let streams = TcpListener::bind(ANY_LOOPBACK).await.unwrap();
        let _heartbeats = begin(&streams, 0);
        timeout(WAIT_TIMEOUT, streams.accept()).await.expect("a connection is opened").unwrap();
    }

    #[tokio::test]
    async fn rubbish_is_nobodys_sign_of_life() {
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
