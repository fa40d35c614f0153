//! Reused connections to sandboxes: their end, and the requests that may be sent on them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use api::wire::{self, EndpointState, Retry};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body::{Body, Frame};
use http_body_util::{Empty, StreamBody};
use sim::{DataPlaneStream, WAIT_TIMEOUT};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, yield_now},
    time::{Instant, timeout},
};

use super::{
    client::{get, open_http2, read, request, send, spawn_get, with_body},
    sandbox::Sandbox,
    world::{World, delta, function, has_failures, until, with_function, with_sandbox},
};

/// Opens `count` connections to the sandbox and leaves them idle.
async fn rest(world: &World, sandbox: &Sandbox, count: usize) {
    let held: Vec<_> = (0..count).map(|_| spawn_get(world.data_plane, "f", "/hold")).collect();
    sandbox.running(count).await;
    sandbox.state.gate.add_permits(count);
    for invocation in held {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
    assert_eq!(sandbox.state.connections.load(Ordering::SeqCst), count);
}

#[tokio::test]
async fn the_end_of_many_idle_connections_does_not_delay_the_next_invocation() {
    for protocol in [wire::Protocol::Http1, wire::Protocol::H2c] {
        // More than a task's cooperative budget allows in one poll.
        let count = 160;
        let function_config = wire::FunctionConfig { concurrency: 200, protocol: protocol.into(), ..function() };
        let (world, _session, sandbox) = with_function(function_config, 200).await;
        rest(&world, &sandbox, count).await;
        sandbox.end_connections().await;
        // Half of the function's time-out, for which it would wait on a closed connection.
        let response =
            timeout(Duration::from_secs(5), get(world.data_plane, "f", "/")).await.expect("an answer at once");
        assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "1"), "{protocol:?}");
    }
}

/// A body in frames that each end later than the one before, followed by trailers or nothing.
fn in_frames(has_trailers: bool) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {
    let trailers = has_trailers.then(|| Frame::trailers(HeaderMap::from_iter([(header::ETAG, HeaderValue::from(7))])));
    let frames = (0..4).map(|_| Frame::data(Bytes::from_static(&[b'x'; 5_000]))).chain(trailers);
    let frames = stream::iter(frames.map(Ok)).then(async |frame| {
        yield_now().await;
        frame
    });
    StreamBody::new(Box::pin(frames))
}

#[tokio::test]
async fn uploads_over_h2c_reuse_one_connection() {
    let function_config = wire::FunctionConfig { protocol: wire::Protocol::H2c.into(), ..function() };
    let (world, _session, sandbox) = with_function(function_config, 1).await;
    for round in 0..10 {
        let bytes = [0, 1, 5_000, 65_535, 65_536, 100_000, 1 << 20][round % 7];
        for method in [Method::POST, Method::PUT] {
            let upload = with_body(method, "f", "/count", vec![b'x'; bytes]);
            let response = send(world.data_plane, upload).await.unwrap();
            assert_eq!((response.status.as_u16(), &response.body[..]), (200, bytes.to_string().as_bytes()));
        }
        for has_trailers in [false, true] {
            let head = || Request::post("http://f/count").header(header::HOST, "f");
            let http1 = send(world.data_plane, head().body(in_frames(has_trailers)).unwrap()).await.unwrap();
            let http2 = open_http2(world.data_plane, head().body(in_frames(has_trailers)).unwrap()).await.unwrap();
            for response in [http1, read(http2).await.unwrap()] {
                assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"20000"[..]));
            }
        }
    }
    assert_eq!(sandbox.state.connections.load(Ordering::SeqCst), 1, "none was given up");
}

/// A sandbox that responds to the first request of each connection and closes when the second one arrives, like a
/// request that crosses the close of an idle connection.
struct Once {
    address: SocketAddr,
    /// First requests so far.
    firsts: watch::Sender<usize>,
    /// Second requests so far.
    seconds: watch::Sender<usize>,
    /// Releases the response to one first request per permit.
    gate: Semaphore,
    /// Releases the close of one connection with a second request per permit.
    ends: Semaphore,
}

impl Once {
    async fn start() -> (Arc<Self>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (firsts, seconds) = (watch::Sender::new(0), watch::Sender::new(0));
        let (gate, ends) = (Semaphore::new(0), Semaphore::new(0));
        let once = Arc::new(Self { address, firsts, seconds, gate, ends });
        let server = once.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        (once, task)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut request = [0; 4096];
        let Ok(1..) = stream.read(&mut request).await else { return };
        self.firsts.send_modify(|firsts| *firsts += 1);
        self.gate.acquire().await.unwrap().forget();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        if let Ok(1..) = stream.read(&mut request).await {
            self.seconds.send_modify(|seconds| *seconds += 1);
            self.ends.acquire().await.unwrap().forget();
        }
    }
}

async fn with_once(function_config: wire::FunctionConfig) -> (World, DataPlaneStream, Arc<Once>, JoinHandle<()>) {
    let mut world = World::start().await;
    let slots = function_config.concurrency;
    let mut session = world.accept_stream(vec![function_config]).await;
    let (once, server) = Once::start().await;
    session.delta(delta(1, once.address, slots, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == slots).await;
    (world, session, once, server)
}

/// The same with `count` idle connections, each of which has served its first request.
async fn with_idle(count: usize) -> (World, DataPlaneStream, Arc<Once>, JoinHandle<()>) {
    let concurrency = u32::try_from(count).unwrap();
    let (world, session, once, server) = with_once(wire::FunctionConfig { concurrency, ..function() }).await;
    let first: Vec<_> = (0..count).map(|_| spawn_get(world.data_plane, "f", "/")).collect();
    reaches(&once.firsts, count).await;
    once.gate.add_permits(count);
    for invocation in first {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
    (world, session, once, server)
}

async fn reaches(counter: &watch::Sender<usize>, count: usize) {
    let mut counter = counter.subscribe();
    let reached = timeout(WAIT_TIMEOUT, counter.wait_for(|value| *value == count)).await;
    reached.unwrap_or_else(|_| panic!("{count} should be reached")).unwrap();
}

#[tokio::test]
async fn requests_that_are_not_idempotent_are_sent_once_with_or_without_a_body() {
    for protocol in [wire::Protocol::Http1, wire::Protocol::H2c] {
        let function_config = wire::FunctionConfig { protocol: protocol.into(), ..function() };
        let (world, _session, sandbox) = with_function(function_config, 1).await;
        let bare = Request::post("/die-once").header("host", "f").body(Empty::new()).unwrap();
        let response = send(world.data_plane, bare).await.unwrap();
        assert_eq!(response.refusal(), (502, "upstream"), "{protocol:?}: it may have been acted on (9110, 9.2.2)");
        assert_eq!(sandbox.state.served.load(Ordering::SeqCst), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_function_may_allow_retries_of_any_request() {
    let (world, _session, sandbox) =
        with_function(wire::FunctionConfig { retry: Retry::Any.into(), ..function() }, 1).await;
    let post = with_body(Method::POST, "f", "/die-once", "harmless");
    let response = send(world.data_plane, post).await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    assert_eq!(sandbox.state.served.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stream_that_was_refused_unprocessed_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut streams = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                streams += 1;
                if streams == 1 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            }
        }
    });
    let mut world = World::start().await;
    let function_config = wire::FunctionConfig { protocol: wire::Protocol::H2c.into(), ..function() };
    let mut session = world.accept_stream(vec![function_config]).await;
    session.delta(delta(1, address, 1, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    let bare = Request::post("/").header("host", "f").body(Empty::new()).unwrap();
    let response = send(world.data_plane, bare).await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
}

#[tokio::test]
async fn posts_do_not_fail_while_a_sandbox_closes_idle_connections() {
    // A connection may be idle for an eighth of it, 10 ms, to be used for a POST.
    let function_config = wire::FunctionConfig { connection_idle_ms: Some(80), ..function() };
    let (world, _session, once, _server) = with_once(function_config).await;
    once.gate.add_permits(10);
    for number in 0..5 {
        let response = send(world.data_plane, with_body(Method::POST, "f", "/", "1")).await.unwrap();
        assert_eq!(response.status, 200, "POST number {number}");
        let responded = Instant::now();
        until("the connection has been idle", async || responded.elapsed() > Duration::from_millis(20)).await;
    }
    assert_eq!((*once.firsts.borrow(), *once.seconds.borrow()), (5, 0));
}

#[tokio::test]
async fn when_an_idle_connection_ends_under_a_request_the_others_are_not_tried() {
    let (world, _session, once, _server) = with_idle(3).await;
    once.ends.add_permits(1);
    once.gate.add_permits(1);
    let response = get(world.data_plane, "f", "/").await;
    assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    assert_eq!(*once.seconds.borrow(), 1);
}

#[tokio::test]
async fn idle_connections_that_end_under_requests_do_not_count_against_the_sandbox() {
    // More connections than the sandbox could have without idle ones, and no response in between.
    const ENDS: usize = 3;
    let (world, mut session, once, _server) = with_idle(ENDS).await;
    let crossing: Vec<_> = (0..ENDS).map(|_| spawn_get(world.data_plane, "f", "/")).collect();
    reaches(&once.seconds, ENDS).await;
    once.ends.add_permits(ENDS);
    reaches(&once.firsts, 2 * ENDS).await;
    once.gate.add_permits(ENDS);
    for invocation in crossing {
        let response = invocation.await.unwrap();
        assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "2"));
    }
    assert!(!has_failures(&mut session).await, "{:?}", session.failures);
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_idle_timeout() {
    let (world, _session, sandbox) =
        with_function(wire::FunctionConfig { connection_idle_ms: Some(50), ..function() }, 1).await;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    until("the connection is closed", async || *sandbox.state.open.borrow() == 0).await;

    let (world, _session, sandbox) =
        with_function(wire::FunctionConfig { connection_idle_ms: Some(0), ..function() }, 1).await;
    for _ in 0..3 {
        assert_eq!(send(world.data_plane, request("f", "/")).await.unwrap().status, 200);
    }
    assert_eq!(sandbox.state.connections.load(Ordering::SeqCst), 3, "none is kept");
    drop((world, sandbox));

    let (world, _session, sandbox) = with_sandbox(1).await;
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    until("the connection is closed by default", async || *sandbox.state.open.borrow() == 0).await;
}
