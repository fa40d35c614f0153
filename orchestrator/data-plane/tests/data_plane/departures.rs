//! Clients that leave before their request is served, or seem to.

use std::{sync::atomic::Ordering, time::Duration};

use api::wire;
use http::Request;
use sim::WAIT_TIMEOUT;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    client::get,
    sandbox::Sandbox,
    world::{World, active, function, with_sandbox},
};

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// More than is read of a body that is not polled.
const UPLOAD_BYTES: usize = 100_000;

async fn connect(world: &World, bytes: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    connection
}

/// The head of an upload of `length` bytes.
fn upload(version: &str, length: usize) -> Vec<u8> {
    format!("POST /echo {version}\r\nhost: f\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "says which case failed")]
async fn a_client_that_leaves_the_queue_is_noticed_whatever_of_its_request_is_unread() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let head = upload("HTTP/1.1", UPLOAD_BYTES);
    let whole = [head.clone(), vec![b'x'; UPLOAD_BYTES]].concat();
    let requests: [(&str, &[u8]); 7] = [
        ("no body", b"GET / HTTP/1.1\r\nhost: f\r\n\r\n"),
        ("a whole body", &whole),
        ("half a body", &whole[..whole.len() / 2]),
        ("no byte of a body", &head),
        ("chunks", b"POST / HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        ("Expect", b"PUT / HTTP/1.1\r\nhost: f\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"),
        ("another request", b"GET / HTTP/1.1\r\nhost: f\r\n\r\nGET / HTTP/1.1\r\nhost: f\r\n\r\n"),
    ];
    for (what, request) in requests {
        for resets in [false, true] {
            println!("{what}, reset: {resets}");
            let client = connect(&world, request).await;
            session.waiting(1).await;
            if resets {
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            session.waiting(0).await;
        }
    }
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    assert_eq!(sandbox.state.served.load(Ordering::SeqCst), 1, "those that left never ran");
}

/// More than fits into the buffers on the way.
const GREAT_UPLOAD_BYTES: usize = 50_000_000;

#[tokio::test]
async fn a_client_that_leaves_the_queue_behind_a_body_that_fills_the_buffers_is_detected() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![wire::FunctionConfig { queue_deadline_ms: 60_000, ..function() }]).await;
    let mut client = connect(&world, &upload("HTTP/1.1", GREAT_UPLOAD_BYTES)).await;
    let part = vec![b'x'; UPLOAD_BYTES];
    // If the buffers only seem to be full, the test is easier to pass, no more.
    while timeout(Duration::from_millis(500), client.write_all(&part)).await.is_ok() {}
    session.waiting(1).await;
    drop(client);
    session.waiting(0).await;

    // A client that stays is probed and served.
    let mut client = connect(&world, &upload("HTTP/1.1", 10 * UPLOAD_BYTES)).await;
    let (mut reads, mut writes) = client.split();
    let mut received = vec![0; INTERIM.len()];
    let talk = async {
        let all = part.repeat(10);
        let listen = async {
            reads.read_exact(&mut received).await.unwrap();
            assert_eq!(received, INTERIM);
            let sandbox = Sandbox::start().await;
            session.delta(active(1, &sandbox, 1));
            while !received.ends_with(b"\r\n0\r\n\r\n") {
                assert!(reads.read_buf(&mut received).await.unwrap() > 0, "the response is cut short");
            }
        };
        tokio::join!(listen, async { writes.write_all(&all).await.unwrap() });
    };
    timeout(WAIT_TIMEOUT, talk).await.expect("the response comes");
    let mut response = &received[..];
    while let Some(rest) = response.strip_prefix(INTERIM) {
        response = rest;
    }
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n") && response.len() > 10 * UPLOAD_BYTES);
}

#[tokio::test]
async fn an_http2_client_that_leaves_the_queue_with_its_body_unread_is_detected() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    for leaves_as_a_whole in [false, true] {
        let stream = TcpStream::connect(world.data_plane).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let request = Request::post("http://f/").body(()).unwrap();
        let (_response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data("a part".into(), false).unwrap();
        session.waiting(1).await;
        if leaves_as_a_whole {
            connection.abort();
        } else {
            body.send_reset(h2::Reason::CANCEL);
        }
        session.waiting(0).await;
    }
}

#[tokio::test]
async fn input_that_arrives_while_a_request_waits_is_read_when_it_is_served() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    // An HTTP/1.0 client gets the body without framing, until the connection is closed.
    let mut client = connect(&world, &upload("HTTP/1.0", UPLOAD_BYTES)).await;
    session.waiting(1).await;
    let body: Vec<u8> = (0..UPLOAD_BYTES).map(|index| index.to_le_bytes()[index % 3]).collect();
    for piece in body.chunks(UPLOAD_BYTES / 3) {
        client.write_all(piece).await.unwrap();
        // By its second sample from now the data plane has seen the bytes arrive, and left them unread.
        session.samples.clear();
        for _ in 0..2 {
            session.sample(|sample| sample.waiting == 1).await;
        }
    }
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    let mut received = Vec::new();
    timeout(WAIT_TIMEOUT, client.read_to_end(&mut received)).await.expect("the response ends").unwrap();
    assert!(received[8..].starts_with(b" 200 OK\r\n"), "{}", String::from_utf8_lossy(&received[..100]));
    assert!(received.ends_with(&body), "{} bytes of {}", received.len(), body.len());
}

#[tokio::test]
async fn a_half_closed_client_gets_its_response() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    let body = vec![b'x'; UPLOAD_BYTES];
    let requests: [(&[u8], &[u8]); 3] = [
        (b"GET / HTTP/1.1\r\nhost: f\r\n\r\n", b"ok"),
        (b"GET / HTTP/1.0\r\nhost: f\r\n\r\n", b"ok"),
        (&[upload("HTTP/1.0", UPLOAD_BYTES), body.clone()].concat(), &body),
    ];
    let mut clients = Vec::new();
    for (request, _) in requests {
        let mut client = connect(&world, request).await;
        client.shutdown().await.unwrap();
        clients.push(client);
    }
    // Long enough for the data plane to probe them.
    session.waiting(3).await;
    session.samples.clear();
    for _ in 0..4 {
        session.sample(|sample| sample.waiting == 3).await;
    }
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    for (mut client, (_, body)) in clients.into_iter().zip(requests) {
        let mut received = Vec::new();
        timeout(WAIT_TIMEOUT, client.read_to_end(&mut received)).await.expect("the connection ends").unwrap();
        let response = received.strip_prefix(INTERIM).unwrap_or(&received);
        assert!(
            response[8..].starts_with(b" 200 OK\r\n"),
            "{}",
            String::from_utf8_lossy(&received[..received.len().min(200)])
        );
        assert!(response.ends_with(body), "{} bytes", received.len());
    }
    // A request that is served at once gets no interim response before it.
    let mut client = connect(&world, requests[0].0).await;
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    timeout(WAIT_TIMEOUT, client.read_to_end(&mut received)).await.expect("the connection ends").unwrap();
    assert!(received.ends_with(b"ok"), "{}", String::from_utf8_lossy(&received));
}

#[tokio::test]
async fn a_response_continues_while_its_half_closed_client_reads() {
    let (world, _session, sandbox) = with_sandbox(1).await;
    let mut client = connect(&world, b"GET /drip HTTP/1.0\r\nhost: f\r\n\r\n").await;
    let mut received = Vec::new();
    for drops in 1..4 {
        let hears = async {
            while received.windows(5).filter(|&window| window == b"drop\n").count() < drops {
                assert!(client.read_buf(&mut received).await.unwrap() > 0, "the response is cut short");
            }
        };
        timeout(WAIT_TIMEOUT, hears).await.expect("the next part comes");
        client.shutdown().await.unwrap();
        sandbox.state.gate.add_permits(1);
    }
    drop(client);
    // A write to a client that is gone shows that it is.
    sandbox.state.gate.add_permits(100);
    sandbox.running(0).await;
}

#[tokio::test]
async fn a_silent_half_closed_http10_client_leaves_the_queue() {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function()]).await;
    drop(connect(&world, b"GET / HTTP/1.0\r\nhost: f\r\n\r\n").await);
    session.waiting(1).await;
    session.waiting(0).await;
}
