//! Requests that get no response because of the function or of a connection, while others run in the same sandbox.

use std::time::Duration;

use api::wire::{self, EndpointState};
use http::Method;
use sim::{DataPlaneStream, WAIT_TIMEOUT};
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinHandle, time::timeout};

use super::{
    blocking::{Blocking, Call},
    client::{BufferedResponse, get, open, read, request, send, spawn_get, with_body},
    world::{World, delta, function},
};

/// A frame's head: length, type, flags, stream (RFC 9113, section 4.1). Every connection here carries one stream, 1.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// `:status: 200`, and nothing more.
const RESPONSE: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
/// Last stream 0, NO_ERROR.
const GOAWAY_ALL: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const REFUSED_STREAM: u8 = 7;
const INTERNAL_ERROR: u8 = 2;
const CANCEL: u8 = 8;

fn reset(code: u8) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]
}

/// A world in which `f` has four slots in one sandbox.
async fn with_blocking(protocol: wire::Protocol) -> (World, DataPlaneStream, Blocking) {
    let mut world = World::start().await;
    let shared =
        wire::FunctionConfig { concurrency: 4, protocol: protocol.into(), connection_idle_ms: Some(0), ..function() };
    let mut session = world.accept_stream(vec![shared]).await;
    let sandbox = Blocking::start().await;
    session.delta(delta(1, sandbox.address(), 4, EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 4).await;
    (world, session, sandbox)
}

fn spawn_post(world: &World) -> JoinHandle<BufferedResponse> {
    let (to, post) = (world.data_plane, with_body(Method::POST, "f", "/", ""));
    tokio::spawn(async move { send(to, post).await.expect("a complete answer") })
}

/// The next invocation over HTTP/2, its header section read.
async fn http2_call(sandbox: &Blocking) -> Call {
    let mut stream = sandbox.accept().await;
    let read = async |stream: &mut TcpStream, length: usize| {
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    };
    let preface = async {
        read(&mut stream, 24).await;
        loop {
            let head = read(&mut stream, 9).await;
            read(&mut stream, usize::from(head[1]) * 256 + usize::from(head[2])).await;
            if head[3] == 1 {
                return;
            }
        }
    };
    timeout(WAIT_TIMEOUT, preface).await.expect("a request comes in time");
    Call::on(stream)
}

/// `:status: 200` and `content-length: 9`, and a body of three bytes.
const SHORT_RESPONSE: &[u8] =
    &[0, 0, 5, 1, 4, 0, 0, 0, 1, 0x88, 0x0f, 0x0d, 1, b'9', 0, 0, 3, 0, 1, 0, 0, 0, 1, b'a', b'b', b'c'];

/// `:status: 200`, and three bytes of a body that continues.
const BEGUN_RESPONSE: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88, 0, 0, 3, 0, 0, 0, 0, 0, 1, b'a', b'b', b'c'];

fn http2(frame: &[u8]) -> Vec<u8> {
    [SETTINGS, frame].concat()
}

#[tokio::test]
async fn unreadable_responses_are_not_the_fault_of_the_sandbox() {
    let (world, mut session, sandbox) = with_blocking(wire::Protocol::Http1).await;
    let kept = spawn_post(&world);
    let kept_call = sandbox.call().await;
    let unreadable = [
        "HTTP/1.1 200 OK\r\nBad Name: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        "HTTP/7.3 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: mine\r\n\r\n",
    ];
    for response in unreadable {
        let invocation = spawn_get(world.data_plane, "f", "/");
        sandbox.call().await.respond_with(response.as_bytes().to_vec());
        assert_eq!(invocation.await.unwrap().refusal(), (502, "upstream"), "{response:?}");
    }
    finish_as_usual(&world, &mut session, kept, async || {
        kept_call.response().await;
        sandbox.call().await.response().await;
    })
    .await;
}

/// The writer of the response may continue, so a function of one slot gets no second invocation.
#[tokio::test]
async fn an_unreadable_response_keeps_its_slot_until_the_sandbox_has_ended_it() {
    let mut world = World::with(|config| config.cancel_grace = Duration::from_millis(20)).await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Blocking::start().await;
    session.delta(delta(1, sandbox.address(), 1, EndpointState::Active, 1));
    let first = spawn_get(world.data_plane, "f", "/");
    let going_on = sandbox.call().await.begin(b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n").await;
    assert_eq!(first.await.unwrap().refusal(), (502, "upstream"));
    let second = spawn_get(world.data_plane, "f", "/");
    let too_early = timeout(Duration::from_millis(200), sandbox.call()).await;
    assert!(too_early.is_err(), "the first still runs");
    drop(going_on);
    sandbox.call().await.response().await;
    assert_eq!(second.await.unwrap().header("x-dirigent-sandbox"), "0-1");
}

#[tokio::test]
async fn streams_that_the_function_resets_are_not_the_fault_of_the_sandbox() {
    let (world, mut session, sandbox) = with_blocking(wire::Protocol::H2c).await;
    let kept = spawn_post(&world);
    let kept_call = http2_call(&sandbox).await;
    for code in [REFUSED_STREAM, INTERNAL_ERROR, CANCEL] {
        let invocation = spawn_get(world.data_plane, "f", "/");
        for _ in 0..3 {
            http2_call(&sandbox).await.respond_with(http2(&reset(code)));
        }
        assert_eq!(invocation.await.unwrap().refusal(), (502, "upstream"), "code {code}: sent three times");
    }
    for code in [INTERNAL_ERROR, CANCEL] {
        let invocation = spawn_post(&world);
        http2_call(&sandbox).await.respond_with(http2(&reset(code)));
        assert_eq!(invocation.await.unwrap().refusal(), (502, "upstream"), "code {code}: sent once");
    }
    finish_as_usual(&world, &mut session, kept, async || {
        kept_call.respond_with(http2(RESPONSE));
        http2_call(&sandbox).await.respond_with(http2(RESPONSE));
    })
    .await;
}

#[tokio::test]
async fn responses_that_break_right_after_their_head_are_refusals_if_nothing_was_sent() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let fields: String = (0..257).map(|number| format!("x-{number}: 1\r\n")).collect();
    let field = |number: u16| [0, 1, u8::try_from(number % 26).unwrap() + b'a', 1, b'1'];
    let late_fields: Vec<u8> = (0..257).flat_map(field).collect();
    let length = u16::try_from(late_fields.len()).unwrap().to_be_bytes();
    let late_fields = [BEGUN_RESPONSE, &[0, length[0], length[1], 1, 5, 0, 0, 0, 1][..], &late_fields].concat();
    for (protocol, response) in [
        (wire::Protocol::Http1, format!("{chunked}no chunk\r\n").into_bytes()),
        (wire::Protocol::Http1, format!("{chunked}3\r\nabc\r\n0\r\n{fields}\r\n").into_bytes()),
        (wire::Protocol::H2c, http2(SHORT_RESPONSE)),
        (wire::Protocol::H2c, http2(&late_fields)),
    ] {
        let (world, mut session, sandbox) = with_blocking(protocol).await;
        let invocation = spawn_get(world.data_plane, "f", "/");
        match protocol {
            wire::Protocol::H2c => http2_call(&sandbox).await,
            _ => sandbox.call().await,
        }
        .respond_with(response);
        assert_eq!(invocation.await.unwrap().refusal(), (502, "upstream"), "{protocol:?}");
        session.sample(|sample| sample.running == 0).await;
        assert_eq!(session.failures, [], "{protocol:?}: nothing was wrong with the sandbox");
    }
}

#[tokio::test]
async fn responses_that_break_later_are_counted() {
    let (world, _session, sandbox) = with_blocking(wire::Protocol::Http1).await;
    let (response, _connection) = {
        let opening = tokio::spawn(open(world.data_plane, request("f", "/")));
        let call = sandbox.call().await.begin(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await;
        let response = opening.await.unwrap().unwrap();
        drop(call);
        response
    };
    assert!(read(response).await.is_err(), "it is never taken for a complete one");
    let counts = get(world.admin, "admin", "/metrics").await;
    let counts = String::from_utf8(counts.body.to_vec()).unwrap();
    assert!(counts.contains("\ndirigent_data_plane_responses_broken_total 1\n"), "{counts}");
}

#[tokio::test]
async fn requests_that_a_sandbox_has_not_acted_on_are_sent_again_whatever_they_are() {
    let (world, mut session, sandbox) = with_blocking(wire::Protocol::H2c).await;
    let kept = spawn_post(&world);
    let kept_call = http2_call(&sandbox).await;
    for unprocessed in [reset(REFUSED_STREAM), GOAWAY_ALL.to_vec()] {
        let invocation = spawn_post(&world);
        for _ in 0..2 {
            http2_call(&sandbox).await.respond_with(http2(&unprocessed));
        }
        http2_call(&sandbox).await.respond_with(http2(RESPONSE));
        let response = invocation.await.unwrap();
        assert_eq!((response.status.as_u16(), response.header("x-dirigent-attempts")), (200, "3"), "{unprocessed:?}");
    }
    finish_as_usual(&world, &mut session, kept, async || {
        kept_call.respond_with(http2(RESPONSE));
        http2_call(&sandbox).await.respond_with(http2(RESPONSE));
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_whose_connections_end_repeatedly_is_drained_if_others_run_there() {
    let (world, mut session, sandbox) = with_blocking(wire::Protocol::Http1).await;
    let kept = spawn_post(&world);
    let kept_call = sandbox.call().await;
    let dying = spawn_get(world.data_plane, "f", "/");
    for _ in 0..2 {
        drop(sandbox.call().await);
    }
    let failure = session.failure(1).await;
    assert!(failure.drains && !failure.retired, "{failure:?}");
    session.delta(delta(1, sandbox.address(), 4, EndpointState::Draining, 2));
    session.ack(1, |ack| ack.slots == 1 && ack.version == 2).await;
    kept_call.response().await;
    assert_eq!(kept.await.unwrap().status, 200, "it goes on to its end");
    session.ack(1, |ack| ack.slots == 0 && ack.version == 2).await;
    dying.abort();
}

/// The invocation that ran all the time succeeds, as does another one in the same sandbox; `respond` responds to both.
async fn finish_as_usual(
    world: &World,
    session: &mut DataPlaneStream,
    kept: JoinHandle<BufferedResponse>,
    response: impl AsyncFnOnce(),
) {
    let last = spawn_get(world.data_plane, "f", "/");
    response().await;
    assert_eq!(last.await.unwrap().header("x-dirigent-sandbox"), "0-1", "it is used as before");
    let kept = kept.await.unwrap();
    assert_eq!((kept.status.as_u16(), kept.header("x-dirigent-attempts")), (200, "1"));
    session.sample(|sample| sample.running == 0).await;
    assert_eq!(session.failures, [], "nothing was wrong with the sandbox");
}
