//! Tests of incoming connections: accepting, authenticating and closing them.

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::pin,
};

use futures::StreamExt;
use service::{ANY_LOOPBACK, Accepted, Network, OsNetwork};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};

use super::*;

/// Buffer of one direction of an in-memory connection.
const BUFFER_BYTES: usize = 1024;

/// A listener that accepts the connections which a test queues.
struct Queue(tokio::sync::Mutex<mpsc::UnboundedReceiver<Accepted>>);

impl Listener for Queue {
    fn accept(&self) -> Pin<Box<dyn Future<Output = io::Result<Accepted>> + Send + '_>> {
        Box::pin(async { self.0.lock().await.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(ANY_LOOPBACK)
    }
}

struct Clients(mpsc::UnboundedSender<Accepted>);

impl Clients {
    fn connect(&self, from: impl Into<IpAddr>) -> DuplexStream {
        let (own, other) = duplex(BUFFER_BYTES);
        let peer = SocketAddr::new(from.into(), 1);
        self.0.send(Accepted { io: Box::new(other), local: ANY_LOOPBACK, peer }).expect("it listens");
        own
    }
}

fn listen() -> (Clients, Pin<Box<dyn Stream<Item = io::Result<PeerConnection>> + Send>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Clients(sender), Box::pin(Incoming::stream(Box::new(Queue(tokio::sync::Mutex::new(receiver))))))
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_accepted_soon_despite_thousands_of_silent_ones() {
    let (clients, mut incoming) = listen();
    let silent: Vec<_> = (0..2000).map(|_| clients.connect(Ipv4Addr::LOCALHOST)).collect();
    let mut peer = clients.connect(Ipv4Addr::LOCALHOST);
    let began = Instant::now();
    let mut served = Vec::new();
    for _ in 0..silent.len() {
        let mut connection = incoming.next().await.unwrap().unwrap();
        served.push(tokio::spawn(async move { connection.read_u8().await.unwrap_err().kind() }));
    }
    let mut connection = incoming.next().await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "accepted after {:?}", began.elapsed());
    // Further silent connections do not evict it before it can send a request.
    let more: Vec<_> = (0..2000).map(|_| clients.connect(Ipv4Addr::LOCALHOST)).collect();
    let mut held = Vec::new();
    let accept = async {
        while let Some(accepted) = incoming.next().await {
            held.push(accepted);
        }
    };
    let request = async {
        sleep(Duration::from_millis(50)).await;
        peer.write_u8(7).await.unwrap();
        std::future::pending::<()>().await;
    };
    let read = tokio::select! {
        read = connection.read_u8() => read,
        () = accept => unreachable!("the listener never ends"),
        () = request => unreachable!("the request task never ends"),
    };
    assert_eq!(read.unwrap(), 7);
    for ended in served {
        assert_eq!(ended.await.unwrap(), io::ErrorKind::TimedOut);
    }
    drop((silent, more));
}

#[tokio::test(start_paused = true)]
async fn time_outs_also_end_a_connection_that_only_writes() {
    for (is_peer, within) in [(false, Duration::from_secs(2)), (true, Duration::from_secs(5))] {
        let (clients, mut incoming) = listen();
        let _never_reads = clients.connect(Ipv4Addr::LOCALHOST);
        let mut connection = incoming.next().await.unwrap().unwrap();
        if is_peer {
            connection.connect_info().set_authenticated();
        }
        let began = Instant::now();
        let ended = tokio::time::timeout(within * 2, connection.write_all(&[0; 2 * BUFFER_BYTES])).await;
        assert_eq!(ended.expect("it ends").unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed().abs_diff(within) < Duration::from_millis(10), "after {:?}", began.elapsed());
        if !is_peer {
            assert!(connection.flush().await.is_err(), "it stays closed");
        }
    }
}

/// Both ends of a connection over TCP.
async fn connect() -> (TcpStream, PeerConnection) {
    let listener = OsNetwork.bind(ANY_LOOPBACK).await.unwrap();
    let address = listener.local_address().unwrap();
    let mut incoming = Box::pin(Incoming::stream(listener));
    let (client, connection) = tokio::join!(TcpStream::connect(address), incoming.next());
    (client.unwrap(), connection.unwrap().unwrap())
}

#[tokio::test]
async fn unsent_bytes_are_discarded_for_a_peer_that_does_not_read() {
    let (mut client, mut connection) = connect().await;
    let write = async { while connection.write_all(&[0; 64 * 1024]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), write).await.expect("an unauthenticated connection ends");
    drop(connection);
    let end = client.read_to_end(&mut Vec::new()).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// Size of one write; several of them fill the socket buffers.
const PIECE_BYTES: usize = 64 * 1024;

/// Writes until the socket buffers of both ends are full.
async fn fill(connection: &mut PeerConnection) {
    while let Ok(wrote) = tokio::time::timeout(Duration::from_millis(100), connection.write(&[0; PIECE_BYTES])).await {
        wrote.expect("the peer is connected");
    }
}

/// Reads at the client, one piece at a time, until the connection accepts one byte: the kernel announces free space
/// with a delay, and small amounts not at all. Reads so little that the kernel does not report the socket as writable.
async fn make_room(client: &mut TcpStream, connection: &PeerConnection) {
    let socket = SockRef::from(connection.io.as_ref().socket().unwrap());
    let mut attempts = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..64 {
        client.read_exact(&mut vec![0; PIECE_BYTES]).await.unwrap();
        for _ in 0..50 {
            if socket.send(&[0]).is_ok() {
                return;
            }
            attempts.tick().await;
        }
    }
    panic!("the connection accepts no byte although the client has read");
}

#[tokio::test]
async fn a_peer_behind_large_buffers_keeps_its_connection_while_it_accepts_bytes() {
    let (mut client, mut connection) = connect().await;
    connection.connect_info().set_authenticated();
    fill(&mut connection).await;
    for _ in 0..3 {
        make_room(&mut client, &connection).await;
        let mut write = pin!(connection.write(&[0; PIECE_BYTES]));
        assert!(futures::poll!(write.as_mut()).is_pending(), "the buffers are too small for this test");
        tokio::time::pause();
        tokio::time::advance(WRITE_TIMEOUT + Duration::from_millis(1)).await;
        let wrote = futures::poll!(write.as_mut());
        tokio::time::resume();
        assert!(matches!(wrote, Poll::Ready(Ok(1..))), "the peer has accepted bytes: {wrote:?}");
        fill(&mut connection).await;
    }
    // The peer reads no more. Kernel buffers may still accept bytes until they are full.
    for _ in 0..100 {
        fill(&mut connection).await;
        let mut write = pin!(connection.write(&[0; PIECE_BYTES]));
        let before = futures::poll!(write.as_mut());
        tokio::time::pause();
        tokio::time::advance(WRITE_TIMEOUT + Duration::from_millis(1)).await;
        let wrote = if before.is_pending() { futures::poll!(write.as_mut()) } else { before };
        tokio::time::resume();
        if let Poll::Ready(Err(error)) = wrote {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            return;
        }
    }
    panic!("the connection does not end");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_keeps_its_connection() {
    let (clients, mut incoming) = listen();
    let mut slow = clients.connect(Ipv4Addr::LOCALHOST);
    let mut connection = incoming.next().await.unwrap().unwrap();
    connection.connect_info().set_authenticated();
    let write = async move { connection.write_all(&[1; 10 * BUFFER_BYTES]).await };
    let read = async {
        let mut left = 10 * BUFFER_BYTES;
        while left > 0 {
            sleep(Duration::from_secs(4)).await;
            left -= slow.read(&mut [0; BUFFER_BYTES]).await.unwrap();
        }
    };
    let (wrote, ()) = tokio::join!(write, read);
    wrote.unwrap();
}
