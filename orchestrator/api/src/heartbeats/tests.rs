//! Tests of both ends of heartbeats, over real sockets.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use service::{ANY_LOOPBACK, OsNetwork};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::mpsc, time::timeout};

use super::*;

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
    assert_eq!(next_interval(50, Duration::from_micros(2500)), Duration::from_micros(2500), "the interval is stable");
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
    let heartbeat =
        |worker: &str, is_answer| WorkerHeartbeat { worker: worker.to_owned(), answer: true, is_answer, instance: 1 };
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
