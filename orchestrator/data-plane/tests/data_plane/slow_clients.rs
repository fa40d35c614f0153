//! HTTP/2 clients that read their responses slowly or not at all: only the unread ones end.

use std::time::Duration;

use api::wire;
use bytesize::ByteSize;
use futures::FutureExt;
use h2::{Ping, RecvStream};
use http::{Request, Response};
use sim::WAIT_TIMEOUT;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinHandle,
    time::{interval, timeout},
};

use super::{
    client::get,
    clients::{HttpTwo, fetch, fetch_many, is_reset, with_window},
    sandbox::Sandbox,
    world::{World, active, function, until},
};

/// A client with a window for a part of a refusal, which sends PINGs while it is connected, and its connection.
async fn pinging(world: &World) -> (HttpTwo, JoinHandle<()>) {
    let stream = TcpStream::connect(world.data_plane).await.unwrap();
    let builder = h2::client::Builder::new().initial_window_size(100).handshake(stream);
    let (sender, mut connection) = builder.await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let connected = tokio::spawn(async move { drop(connection.await) });
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(20));
        while pings.ping(Ping::opaque()).await.is_ok() {
            ticks.tick().await;
        }
    });
    (sender, connected)
}

#[tokio::test]
async fn unread_refusals_hold_no_connection_and_no_shutdown_whatever_else_is_sent() {
    let mut world = World::with(|config| {
        config.limits.client_connections = Some(2);
        config.drain_deadline = Duration::from_secs(600);
    })
    .await;
    let mut session = world.accept_stream(vec![function()]).await;
    let ((first, first_connected), (second, second_connected)) = (pinging(&world).await, pinging(&world).await);
    let _refusals = [fetch(&first, "nobody", "/").await, fetch(&second, "nobody", "/").await];
    let served = async || get(world.data_plane, "nobody", "/").await.status == 404;
    until("a client is served at the bound", served).await;
    for connected in [first_connected, second_connected] {
        timeout(WAIT_TIMEOUT, connected).await.expect("a connection that is to end does").unwrap();
    }

    let (last, _connected) = pinging(&world).await;
    let _refusal = fetch(&last, "nobody", "/").await;
    world.shut_down();
    session.close();
    world.ended().await;
}

/// A path whose response has 4 kB.
fn long_path() -> String {
    format!("/request?{}", "x".repeat(4000))
}

/// Reads a body and returns its length.
async fn read(mut body: RecvStream) -> usize {
    let mut taken = 0;
    while let Some(part) = body.data().await {
        let length = part.expect("it takes what comes").len();
        body.flow_control().release_capacity(length).unwrap();
        taken += length;
    }
    taken
}

/// Requests and reads while the connection accepts requests; errors are checked elsewhere.
fn lively(client: &HttpTwo) -> JoinHandle<()> {
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(response) = try_fetch(&client, "/").await {
            let mut body = response.into_body();
            while let Some(Ok(part)) = body.data().await {
                let _gone_by_now = body.flow_control().release_capacity(part.len());
            }
        }
    })
}

async fn try_fetch(client: &HttpTwo, path: &str) -> Option<Response<RecvStream>> {
    let request = Request::get(format!("http://f{path}")).body(()).unwrap();
    let (response, _) = client.clone().ready().await.ok()?.send_request(request, true).ok()?;
    response.await.ok()
}

fn hold(client: &HttpTwo) -> JoinHandle<Response<RecvStream>> {
    let client = client.clone();
    tokio::spawn(async move { fetch(&client, "f", "/hold").await })
}

async fn expect_broken(world: &World, count: u32) {
    let metrics = get(world.admin, "admin", "/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains(&format!("\ndirigent_data_plane_responses_broken_total {count}\n")), "{metrics}");
}

/// A world in which the stream of each response is held.
async fn without_allowance(send_timeout: Duration) -> World {
    World::with(|config| {
        config.limits.send_timeout = send_timeout;
        config.limits.unsent_responses = ByteSize::mib(1);
        config.limits.unsent_allowance = ByteSize::b(0);
    })
    .await
}

#[tokio::test]
async fn an_unread_response_ends_alone_and_no_other_one_extends_its_deadline() {
    let mut world = without_allowance(Duration::from_secs(2)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 2));
    let client = with_window(&world, 1000).await;
    let running = hold(&client);
    sandbox.running(1).await;
    let stalled = fetch(&client, "f", &long_path()).await.into_body();
    let others = lively(&client);
    assert!(is_reset(Some(stalled)).await, "its time has passed");
    assert!(!others.is_finished(), "the connection takes requests");
    sandbox.state.gate.add_permits(1);
    let held = running.await.unwrap();
    assert_eq!(held.status(), 200, "another stream of the connection is as before");
    read(held.into_body()).await;
    expect_broken(&world, 1).await;
    others.abort();
}

#[tokio::test]
async fn a_connection_with_an_unread_small_response_accepts_no_more_requests_and_ends_after_the_others() {
    let mut world = World::with(|config| config.limits.send_timeout = Duration::from_secs(2)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 2));
    let client = with_window(&world, 1000).await;
    let running = hold(&client);
    sandbox.running(1).await;
    let mut stalled = fetch(&client, "f", &long_path()).await.into_body();
    let refused = timeout(WAIT_TIMEOUT, lively(&client)).await;
    refused.expect("no more requests are taken, though the others' responses are").unwrap();
    assert!(!is_over(&mut stalled), "it may still be taken");
    sandbox.state.gate.add_permits(1);
    let held = running.await.unwrap();
    assert_eq!(held.status(), 200, "what runs is answered");
    read(held.into_body()).await;
    let is_over = async || {
        let metrics = get(world.admin, "admin", "/metrics").await;
        String::from_utf8_lossy(&metrics.body).contains("\ndirigent_data_plane_responses_broken_total 1\n")
    };
    until("its connection ends, and the response with it", is_over).await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_the_whole_response() {
    const PAUSE: Duration = Duration::from_millis(300);
    let send_timeout = Duration::from_secs(2);
    let mut world = without_allowance(send_timeout).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    let client = with_window(&world, 8000).await;
    let response = fetch(&client, "f", "/large").await;
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = response.into_body();
    let (mut taken, mut pauses) = (0, 0);
    let all = async {
        let mut room = 0;
        loop {
            match timeout(PAUSE, body.data()).await {
                Ok(Some(part)) => room += part.unwrap().len(),
                Ok(None) => return,
                Err(_pause) => {
                    body.flow_control().release_capacity(room).unwrap();
                    taken += std::mem::take(&mut room);
                    pauses += 1;
                }
            }
        }
    };
    timeout(3 * WAIT_TIMEOUT, all).await.expect("the response ends");
    assert!(PAUSE * pauses > send_timeout, "it took longer than without bytes: {pauses} pauses");
    assert!(length - taken <= 8000, "{taken} bytes of {length}");
}

#[tokio::test]
async fn a_large_response_counts_for_its_bytes_in_flight_only() {
    // Space for some parts, but not for two such responses.
    let mut world = without_allowance(Duration::from_secs(60)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 4));
    let client = with_window(&world, 1 << 20).await;
    let downloads = (0..4).map(|_| async {
        for _ in 0..10 {
            let response = fetch(&client, "f", "/mebibyte").await;
            let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
            assert_eq!(read(response.into_body()).await, length);
        }
    });
    futures::future::join_all(downloads).await;
}

/// State of a body that is not read.
fn is_over(body: &mut RecvStream) -> bool {
    loop {
        match body.data().now_or_never() {
            Some(Some(Ok(_))) => {}
            end => return end.is_some(),
        }
    }
}

/// With a window of one byte the HTTP library has a whole part; with a window of zero it requests one.
#[tokio::test]
async fn unread_responses_are_bounded_in_total_and_the_largest_holder_loses_first() {
    let long = long_path();
    for (window, path) in [(0, &*long), (1000, &*long), (0, "/")] {
        let mut world = without_allowance(Duration::from_secs(60)).await;
        let session = world.accept_stream(vec![function()]).await;
        let sandbox = Sandbox::start().await;
        session.delta(active(1, &sandbox, 2));
        // A client that reads its responses is not limited by their sum.
        let reader = with_window(&world, 65_535).await;
        for _ in 0..100 {
            read(fetch(&reader, "f", path).await.into_body()).await;
        }
        let (first, second) = (with_window(&world, window).await, with_window(&world, window).await);
        let running = hold(&second);
        sandbox.running(1).await;
        let mut little = fetch_many(&first, 8, path).await;
        let mut much = fetch_many(&second, 60, path).await;
        assert!(is_reset(much.remove(0)).await, "window {window}: what has waited longest of those who leave most");
        for _ in 0..20 {
            read(fetch(&reader, "f", path).await.into_body()).await;
        }
        let mut newest = much.pop().unwrap().expect("its head came");
        assert!(!is_over(&mut newest), "window {window}: not what comes");
        let mut bodies: Vec<_> = much.into_iter().flatten().collect();
        let bounded = async || {
            bodies.retain_mut(|body| !is_over(body));
            // Each counts for 16 KiB and more, of 512 KiB.
            bodies.len() < 32
        };
        until("they are within the bound", bounded).await;
        let is_there = |body: &mut Option<RecvStream>| !is_over(body.as_mut().expect("its head came"));
        assert!(little.iter_mut().all(is_there), "window {window}: who leaves little loses nothing");
        sandbox.state.gate.add_permits(1);
        assert_eq!(running.await.unwrap().status(), 200, "a connection whose streams end goes on");
    }
}

/// A request for `/fields` on an HTTP/2 stream, its head without compression.
fn head_frame(stream: u32) -> Vec<u8> {
    // GET, http, a path and an authority (RFC 7541, appendix A and section 6.2.2).
    let block = b"\x82\x86\x04\x07/fields\x01\x01f";
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

#[tokio::test]
async fn unread_header_sections_are_bounded_in_bytes() {
    let mut world = World::with(|config| config.limits.unsent_responses = ByteSize::mib(1)).await;
    let session = world.accept_stream(vec![wire::FunctionConfig { queue_limit: 1000, ..function() }]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    let response = fetch(&with_window(&world, 0).await, "f", "/fields").await;
    assert!(response.body().is_end_stream(), "the end comes with the head, as some clients ask for");
    let mut stalled = TcpStream::connect(world.data_plane).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend((0..300).flat_map(|number| head_frame(2 * number + 1)));
    stalled.write_all(&bytes).await.unwrap();
    // It is closed without a byte being read.
    let mut ticks = interval(Duration::from_millis(50));
    let ended = async {
        while stalled.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong").await.is_ok() {
            ticks.tick().await;
        }
    };
    timeout(2 * WAIT_TIMEOUT, ended).await.expect("its connection ends");
}
