//! Clients that hold resources that others need: connections, permits, slots.

use std::{future::poll_fn, time::Duration};

use api::wire;
use http::Request;
use http_body_util::{BodyExt, Empty};
use sim::WAIT_TIMEOUT;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
    time::timeout,
};

use super::{
    client::{get, open_http2},
    sandbox::Sandbox,
    world::{World, active, function, until, with_function},
};

const HALF_A_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: f\r\nx-never";

/// The start of an HTTP/2 connection, and the start of a frame.
const HALF_A_FRAME: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x20\x01";

async fn connect(world: &World, bytes: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    connection
}

async fn is_closed(connection: &mut TcpStream) {
    let mut received = Vec::new();
    // A reset ends the connection as well.
    let _ = timeout(WAIT_TIMEOUT, connection.read_to_end(&mut received))
        .await
        .expect("the data plane closes the connection");
}

#[tokio::test]
async fn a_request_head_that_has_begun_must_be_complete_in_time() {
    let world = World::with(|config| config.limits.header_timeout = Duration::from_millis(100)).await;
    is_closed(&mut connect(&world, HALF_A_HEAD).await).await;
    // Also as the second request of a connection, and when it arrives byte by byte.
    let mut connection = connect(&world, b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n").await;
    assert!(connection.read_u8().await.is_ok());
    connection.write_all(HALF_A_HEAD).await.unwrap();
    let drip = async { while connection.write_all(b"x").await.is_ok() {} };
    timeout(WAIT_TIMEOUT, drip).await.expect("the data plane closes the connection");
}

#[tokio::test]
async fn partial_requests_do_not_lock_others_out() {
    let mut world = World::with(|config| config.limits.client_connections = Some(2)).await;
    let _session = world.accept_stream(vec![function()]).await;
    let _half = [connect(&world, HALF_A_FRAME).await, connect(&world, HALF_A_HEAD).await];
    let served = async || get(world.data_plane, "nobody", "/").await.status == 404;
    until("a client is served at the bound", served).await;
}

#[tokio::test]
async fn partial_requests_do_not_delay_a_shutdown() {
    // Far longer than the test waits: the shutdown ends them.
    let mut world = World::with(|config| config.limits.header_timeout = Duration::from_secs(60)).await;
    let mut session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    let _half = [connect(&world, HALF_A_HEAD).await, connect(&world, HALF_A_FRAME).await];
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "the others have been accepted");
    world.shut_down();
    session.ack(1, |ack| ack.slots == 0).await;
    session.close();
    world.ended().await;
}

/// A client that never reads: pipelines requests until there is no space for more responses.
async fn stalled(world: &World, request: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    let requests = request.repeat(100);
    // If the buffers only seem to be full, the test is easier to pass, no more.
    while timeout(Duration::from_millis(500), connection.write_all(&requests)).await.is_ok() {}
    connection
}

const FOR_NOBODY: &[u8] = b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n";

#[tokio::test]
async fn unread_responses_do_not_delay_a_shutdown() {
    let mut world = World::with(|config| config.drain_deadline = Duration::from_secs(600)).await;
    let mut session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    let _deaf = stalled(&world, FOR_NOBODY).await;
    let (refused, served) = (closed_window(&world).await, closed_window(&world).await);
    let mut responses = vec![fetch(&served, "f", "/").await];
    for _ in 0..50 {
        responses.push(fetch(&refused, "nobody", "/").await);
    }
    world.shut_down();
    session.ack(1, |ack| ack.slots == 0).await;
    session.close();
    world.ended().await;
}

#[tokio::test]
async fn unread_responses_do_not_lock_others_out() {
    let mut world = World::with(|config| config.limits.client_connections = Some(2)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    let (refused, served) = (closed_window(&world).await, closed_window(&world).await);
    let _answers = [fetch(&refused, "nobody", "/").await, fetch(&served, "f", "/").await];
    assert_eq!(get(world.data_plane, "nobody", "/").await.status, 404, "a client is served at the bound");
    // Connections that were asked to end have to.
    for mut client in [refused, served] {
        let ended = async {
            while poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
                yield_now().await
            }
        };
        timeout(WAIT_TIMEOUT, ended).await.expect("its connection ends");
    }
}

/// An HTTP/2 client's connection, for requests without a body.
pub(crate) type HttpTwo = h2::client::SendRequest<bytes::Bytes>;

/// An HTTP/2 client that reads no body.
async fn closed_window(world: &World) -> HttpTwo {
    with_window(world, 0).await
}

/// An HTTP/2 client whose streams have a window of `bytes`.
pub(crate) async fn with_window(world: &World, bytes: u32) -> HttpTwo {
    let stream = TcpStream::connect(world.data_plane).await.unwrap();
    let builder = h2::client::Builder::new().initial_window_size(bytes).handshake(stream);
    let (sender, connection) = builder.await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

pub(crate) async fn fetch(sender: &HttpTwo, host: &str, path: &str) -> http::Response<h2::RecvStream> {
    let request = Request::get(format!("http://{host}{path}")).body(()).unwrap();
    let (response, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    timeout(WAIT_TIMEOUT, response).await.expect("an answer in time").unwrap()
}

#[tokio::test]
async fn unread_refusals_hold_no_permit_and_end() {
    let mut world = World::with(|config| {
        config.limits.invocations = Some(50);
        config.limits.send_timeout = Duration::from_secs(2);
    })
    .await;
    let _session = world.accept_stream(vec![function()]).await;
    let mut refusals = Vec::new();
    let senders = [closed_window(&world).await, closed_window(&world).await];
    for sender in &senders {
        for _ in 0..100 {
            let response = fetch(sender, "nobody", "/").await;
            assert_eq!(response.status(), 404, "number {}", refusals.len());
            refusals.push(response);
        }
    }
    assert_eq!(get(world.data_plane, "nobody", "/").await.status, 404, "others are heard");
    let bodiless = refusals.iter().filter(|response| response.body().is_end_stream()).count();
    assert_eq!(bodiless, 2 * (100 - 64), "the others wait");
    for refusal in refusals {
        let mut body = refusal.into_body();
        let end = timeout(WAIT_TIMEOUT, body.data()).await.expect("the stream ends");
        assert!(end.is_none_or(|end| end.is_err()), "nothing fits into the window");
    }
}

#[tokio::test]
async fn small_unread_responses_hold_no_permit() {
    let mut world = World::with(|config| config.limits.invocations = Some(50)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    let sender = closed_window(&world).await;
    let mut responses = Vec::new();
    for number in 0..100 {
        responses.push(fetch(&sender, "f", "/").await);
        assert_eq!(responses[number].status(), 200, "number {number}");
    }
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200, "others are served");
    let waiting = responses.iter().filter(|response| !response.body().is_end_stream()).count();
    assert_eq!(waiting, 100, "none was taken");
}

/// Sends `count` requests for `path` and returns the response bodies; `None` if a stream was reset before its head.
pub(crate) async fn fetch_many(sender: &HttpTwo, count: usize, path: &str) -> Vec<Option<h2::RecvStream>> {
    let mut bodies = Vec::new();
    for _ in 0..count {
        let request = Request::get(format!("http://f{path}")).body(()).unwrap();
        let (response, _) = sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let response = timeout(WAIT_TIMEOUT, response).await.expect("an answer in time");
        bodies.push(response.map(http::Response::into_body).ok());
    }
    bodies
}

/// Returns true if a partial body ends with a reset.
pub(crate) async fn is_reset(body: Option<h2::RecvStream>) -> bool {
    let Some(mut body) = body else { return true };
    loop {
        match timeout(WAIT_TIMEOUT, body.data()).await.expect("the stream ends") {
            Some(Ok(_)) => {}
            end => return end.is_some(),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_slot_past_the_time_out() {
    let function_config = wire::FunctionConfig { timeout_ms: 300, ..function() };
    let (world, _session, sandbox) = with_function(function_config, 1).await;
    let _deaf = connect(&world, b"GET /flood HTTP/1.1\r\nhost: f\r\n\r\n").await;
    sandbox.running(1).await;
    sandbox.running(0).await;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);

    // The other window has space for the first part only.
    for (window, path) in [(0, "/flood"), (5, "/drip")] {
        let sender = with_window(&world, window).await;
        let response = fetch(&sender, "f", path).await;
        assert_eq!(response.status(), 200);
        sandbox.running(0).await;
        assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
        assert_eq!(fetch(&sender, "nobody", "/").await.status(), 404, "the connection is as before");
    }
}

#[tokio::test]
async fn an_http2_client_that_does_not_read_holds_no_slot_for_the_whole_time_out() {
    let mut world = World::with(|config| config.limits.send_timeout = Duration::from_secs(2)).await;
    let session = world.accept_stream(vec![wire::FunctionConfig { timeout_ms: 600_000, ..function() }]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 2));
    // A slow function is not the client's fault.
    let request = Request::get("http://f/drip").body(Empty::<bytes::Bytes>::new()).unwrap();
    let mut slow = open_http2(world.data_plane, request).await.unwrap().into_body();
    assert_eq!(slow.frame().await.unwrap().unwrap().into_data().unwrap(), "drop\n");
    let sender = closed_window(&world).await;
    let response = fetch(&sender, "f", "/flood").await;
    assert_eq!(response.status(), 200);
    sandbox.running(2).await;
    sandbox.running(1).await;
    assert_eq!(fetch(&sender, "nobody", "/").await.status(), 404, "the connection is as before");
    sandbox.state.gate.add_permits(1);
    assert_eq!(slow.frame().await.unwrap().unwrap().into_data().unwrap(), "drop\n");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let mut world = World::with(|config| config.limits.send_timeout = Duration::from_millis(300)).await;
    let _session = world.accept_stream(vec![function()]).await;
    let mut stalled = TcpStream::connect(world.data_plane).await.unwrap();
    let requests = b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n".repeat(100);
    let fetch = async { while stalled.write_all(&requests).await.is_ok() {} };
    timeout(WAIT_TIMEOUT, fetch).await.expect("the data plane closes the connection");
    // An HTTP/2 client that does not respond to pings counts as gone.
    let mut mute = connect(&world, &HALF_A_FRAME[..33]).await;
    is_closed(&mut mute).await;
}
