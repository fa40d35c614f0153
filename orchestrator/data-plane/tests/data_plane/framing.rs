//! Message framing: requests and responses that two parsers could read in two ways, and what a sandbox is sent for
//! them. The rules are RFC 9110 and RFC 9112; the sections are named at the cases.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sim::{DataPlaneStream, WAIT_TIMEOUT};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
    time::timeout,
};

use super::{
    client::get,
    world::{World, delta, function, until},
};

/// A sandbox that responds to every request head with the same bytes and records what it was sent.
pub(super) struct Scripted {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
    _server: JoinHandle<()>,
}

impl Scripted {
    async fn start(response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        let _server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, kept.clone(), response));
            }
        });
        Self { address, sent, _server }
    }

    pub(super) async fn sent(&self) -> String {
        let sent: MutexGuard<'_, Vec<u8>> = self.sent.lock().await;
        String::from_utf8_lossy(&sent).into_owned()
    }
}

/// Responds to each complete request; of a chunked body it waits for no more than the head.
async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<u8>>>, response: &'static str) {
    let (mut buffer, mut unanswered) = ([0; 4096], String::new());
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.lock().await.extend_from_slice(&buffer[..count]);
        unanswered.push_str(&String::from_utf8_lossy(&buffer[..count]));
        while let Some(end) = unanswered.find("\r\n\r\n").map(|end| end + 4) {
            let length = unanswered[..end].lines().find_map(|line| line.strip_prefix("content-length: "));
            let end = end + length.map_or(0, |length| length.parse::<usize>().unwrap());
            if unanswered.len() < end {
                break;
            }
            // A chunked body ends like a head; only heads begin with a method in capitals.
            let is_head = unanswered.starts_with(|first: char| first.is_ascii_uppercase());
            unanswered.drain(..end);
            if is_head && stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
        if response.contains("connection: close") {
            return;
        }
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(super) async fn with_scripted(response: &'static str) -> (World, DataPlaneStream, Scripted) {
    let mut world = World::with(|config| config.limits.client_idle = Duration::from_secs(1)).await;
    let mut session = world.accept_stream(vec![function()]).await;
    let sandbox = Scripted::start(response).await;
    session.delta(delta(1, sandbox.address, 1, api::wire::EndpointState::Active, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    (world, session, sandbox)
}

/// Everything received for `bytes` until the data plane closes: because it was asked to, because of an error, or
/// because nothing more arrived for a second or two.
pub(super) async fn exchange(world: &World, bytes: &str) -> String {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    connection.write_all(bytes.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    // A reset after the response is an end like any other.
    let _ =
        timeout(WAIT_TIMEOUT, connection.read_to_end(&mut received)).await.expect("the data plane closes in the end");
    String::from_utf8_lossy(&received).into_owned()
}

pub(super) fn status_codes(received: &str) -> Vec<&str> {
    received
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, found)| received.get(at + found.len()..at + found.len() + 3))
        .collect()
}

#[tokio::test]
async fn ambiguous_requests_reach_no_sandbox() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let bad = [
        (
            "two lengths (9112, 6.3)",
            "POST /a HTTP/1.1\r\nhost: f\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        ),
        ("a signed length (9110, 8.6)", "POST /a HTTP/1.1\r\nhost: f\r\ncontent-length: +3\r\n\r\nabc"),
        ("a length in hexadecimal", "POST /a HTTP/1.1\r\nhost: f\r\ncontent-length: 0x3\r\n\r\nabc"),
        (
            "a length too large for a number",
            "POST /a HTTP/1.1\r\nhost: f\r\ncontent-length: 99999999999999999999\r\n\r\nabc",
        ),
        (
            "chunked not last (9112, 6.3)",
            "POST /a HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        (
            "an unknown coding (9112, 6.1)",
            "POST /a HTTP/1.1\r\nhost: f\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding in HTTP/1.0 (9112, 6.1)",
            "POST /a HTTP/1.0\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("a space before the colon (9112, 5.1)", "POST /a HTTP/1.1\r\nhost: f\r\ncontent-length : 3\r\n\r\nabc"),
        ("a folded line (9112, 5.2)", "GET /a HTTP/1.1\r\nhost: f\r\nx-a: 1\r\n continued\r\n\r\n"),
        ("a zero byte in a field (9110, 5.5)", "GET /a HTTP/1.1\r\nhost: f\r\nx-a: 1\0\r\n\r\n"),
        ("a bare carriage return in a field (9112, 2.2)", "GET /a HTTP/1.1\r\nhost: f\r\nx-a: 1\rhost: g\r\n\r\n"),
        ("no name", "GET /a HTTP/1.1\r\nhost: f\r\n: empty\r\n\r\n"),
        ("a space in the target (9112, 3.2)", "GET /a b HTTP/1.1\r\nhost: f\r\n\r\n"),
        ("an unknown version", "GET /a HTTP/3.7\r\nhost: f\r\n\r\n"),
        ("no request", "\x16\x03\x01\x02\0\x01\0\r\n\r\n"),
    ];
    for (what, bytes) in bad {
        let received = exchange(&world, bytes).await;
        let codes = status_codes(&received);
        assert!(codes.iter().all(|code| code.starts_with('4') || code.starts_with('5')), "{what}: {received}");
        assert_eq!(sandbox.sent().await, "", "{what} reached the sandbox; the client heard {received}");
    }
    assert_eq!(get(world.data_plane, "f", "/after").await.status, 200, "the data plane is in order");
}

#[tokio::test]
async fn a_broken_chunk_ends_the_exchange_and_completes_no_body() {
    for bad in [
        "zz\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3 \x01\r\nabcdef\r\n0\r\n\r\n",
        "3\r\nabcdef0\r\n\r\n",
    ] {
        let (world, _session, sandbox) = with_scripted("").await;
        let received =
            exchange(&world, &format!("POST /a HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n{bad}")).await;
        assert!(status_codes(&received).iter().all(|code| *code != "200"), "{bad:?}: {received}");
        assert!(!sandbox.sent().await.ends_with("\r\n0\r\n\r\n"), "{bad:?} was completed: {}", sandbox.sent().await);
    }
}

#[tokio::test]
async fn an_http10_client_gets_no_chunks() {
    let (world, _session, _sandbox) =
        with_scripted("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    for asks in ["", "connection: keep-alive\r\n"] {
        let received = exchange(&world, &format!("GET /a HTTP/1.0\r\nhost: f\r\n{asks}\r\n")).await;
        assert!(!received.contains("chunked") && received.ends_with("\r\n\r\nok"), "{received}");
        assert!(received.contains("connection: close\r\n"), "the body ends with the connection: {received}");
        let received = exchange(&world, &format!("GET /a HTTP/1.0\r\nhost: nobody\r\n{asks}\r\n")).await;
        assert!(received.contains("connection: close\r\n"), "so does a refusal: {received}");
    }
}

#[tokio::test]
async fn a_response_that_leaves_a_body_unread_announces_the_end_of_the_connection() {
    let (world, _session, _sandbox) = with_scripted(OK).await;
    for framing in ["content-length: 20000000", "transfer-encoding: chunked", "content-length: 4"] {
        let received = exchange(&world, &format!("POST / HTTP/1.1\r\nhost: nobody\r\n{framing}\r\n\r\n2\r\n")).await;
        assert_eq!(status_codes(&received), ["404"], "{received}");
        assert!(received.contains("connection: close\r\n"), "{received}");
    }
    let short = "POST / HTTP/1.1\r\nhost: nobody\r\ncontent-length: 2\r\n\r\nxx";
    let received = exchange(&world, &short.repeat(2)).await;
    assert_eq!(status_codes(&received), ["404", "404"], "{received}");
    assert!(!received.contains("connection: close\r\n"), "{received}");
}

#[tokio::test]
async fn ambiguous_responses_are_errors_and_end_their_connection() {
    let bad = [
        ("two lengths (9112, 6.3)", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"),
        ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok"),
        ("no answer at all", "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        ("a switch of protocols unasked (9110, 7.8)", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"),
        ("an unknown coding (9112, 6.3)", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\nconnection: close\r\n\r\nx"),
        ("two codings", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    ];
    for (what, response) in bad {
        let (world, _session, _sandbox) = with_scripted(response).await;
        assert_eq!(get(world.data_plane, "f", "/a").await.refusal(), (502, "upstream"), "{what}");
    }
}

#[tokio::test]
async fn a_content_length_with_a_transfer_coding_is_dropped_from_a_response() {
    let (world, _session, _sandbox) =
        with_scripted("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            .await;
    let response = get(world.data_plane, "f", "/a").await;
    assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"ok"[..]));
    assert_ne!(response.header("content-length"), "5");
}

#[tokio::test]
async fn bodies_of_unknown_length_are_forwarded_whatever_the_method() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        let (world, _session, sandbox) = with_scripted("").await;
        let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
        let head = format!("{method} /a HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n");
        connection.write_all((head + "3\r\nabc\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        until(method, async || sandbox.sent().await.ends_with("3\r\nabc\r\n0\r\n\r\n")).await;
        let sent = sandbox.sent().await;
        assert!(sent.contains("transfer-encoding: chunked\r\n") && !sent.contains("content-length"), "{sent}");
    }
}

#[tokio::test]
async fn fields_of_one_name_survive_and_ours_come_first() {
    let (world, _session, _sandbox) = with_scripted(
        "HTTP/1.1 200 OK\r\nserver-timing: exec;dur=88888\r\nset-cookie: a=1\r\nserver-timing: db;dur=2\r\n\
         set-cookie: b=2\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let response = get(world.data_plane, "f", "/a").await;
    let all = |name| response.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("set-cookie"), ["a=1", "b=2"]);
    let timings = all("server-timing");
    assert!(timings[0].starts_with("queue;dur="), "the data plane's own is first: {timings:?}");
    assert_eq!(timings[1..], ["exec;dur=88888", "db;dur=2"]);
}

#[tokio::test]
async fn bytes_after_a_response_are_not_parsed_as_the_next_one() {
    let (world, _session, sandbox) = with_scripted(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
    )
    .await;
    for _ in 0..3 {
        let response = get(world.data_plane, "f", "/a").await;
        assert_eq!((response.status.as_u16(), &response.body[..]), (200, &b"ok"[..]), "{}", sandbox.sent().await);
    }
}

#[tokio::test]
async fn responses_without_a_length_end_with_their_connection_and_interim_ones_are_skipped() {
    let (world, _session, _sandbox) = with_scripted(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\n\r\nto the end",
    )
    .await;
    let received = exchange(&world, "GET /a HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n").await;
    assert!(received.contains("HTTP/1.1 200 OK") && received.contains("to the end"), "{received}");
    assert!(received.contains("transfer-encoding: chunked") || !received.contains("keep-alive"), "{received}");
    let (world, _session, _sandbox) = with_scripted("HTTP/1.1 204 No Content\r\n\r\n").await;
    let received =
        exchange(&world, "GET /a HTTP/1.1\r\nhost: f\r\n\r\nGET /b HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n")
            .await;
    assert_eq!(status_codes(&received), ["204", "204"], "{received}");
    assert!(!received.contains("content-length") && !received.contains("transfer-encoding"), "9110, 8.6: {received}");
}

#[tokio::test]
async fn a_client_that_never_completes_its_head_is_disconnected() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let received = exchange(&world, "GET /a HTTP/1.1\r\nhost: f\r\nx-slow").await;
    assert!(status_codes(&received).iter().all(|code| code.starts_with('4')), "{received}");
    assert_eq!(sandbox.sent().await, "");
}

#[tokio::test]
async fn a_request_to_upgrade_is_forwarded_without_the_upgrade() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let received = exchange(
        &world,
        "GET /chat HTTP/1.1\r\nhost: f\r\nconnection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n",
    )
    .await;
    assert_eq!(status_codes(&received), ["200"], "{received}");
    let sent = sandbox.sent().await;
    assert!(sent.starts_with("GET /chat ") && !sent.contains("upgrade"), "{sent}");
}

#[tokio::test]
async fn targets_of_an_invalid_form_are_refused_and_options_of_the_whole_server_are_forwarded() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let long = format!("GET /{}#", "a".repeat(2_000));
    for bad in [
        "GET f",
        "GET f:80",
        "GET *",
        "POST *",
        "GET /a#b",
        "GET /#",
        "GET http://f/a?b#c",
        "OPTIONS *#",
        "\r\nGET /#",
        long.as_str(),
    ] {
        let received = exchange(&world, &format!("{bad} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n")).await;
        assert!(
            received.starts_with("HTTP/1.1 400 ") && received.contains("x-dirigent-error: bad-request"),
            "{bad}: {received}"
        );
    }
    let received = exchange(
        &world,
        "GET / HTTP/1.1\r\nhost: nobody\r\n\r\nGET /#b HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status_codes(&received), ["404", "400"], "also behind another: {received}");
    assert_eq!(sandbox.sent().await, "");
    for (target, sent) in [("http://f", "*"), ("*", "*"), ("/", "/"), ("http://f/a", "/a"), ("http://f?q", "/?q")] {
        let (world, _session, sandbox) = with_scripted(OK).await;
        let received =
            exchange(&world, &format!("OPTIONS {target} HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(status_codes(&received), ["200"], "{target}: {received}");
        assert!(sandbox.sent().await.starts_with(&format!("OPTIONS {sent} HTTP/1.1\r\n")), "9112, 3.2.4: {target}");
    }
}

#[tokio::test]
async fn refusals_by_the_library_are_refusals_like_all_others() {
    let (world, _session, sandbox) = with_scripted(OK).await;
    let many: String = (0..257).map(|index| format!("x-{index}: 1\r\n")).collect();
    for (request, status, name) in [
        ("GET /a b HTTP/1.1\r\nhost: f\r\n\r\n".to_owned(), "400", "bad-request"),
        ("GET / HTTP/1.1\r\nhost: f\r\nx y: 1\r\n\r\n".to_owned(), "400", "bad-request"),
        (format!("GET / HTTP/1.1\r\nhost: f\r\n{many}\r\n"), "431", "headers-too-large"),
        (format!("GET / HTTP/1.1\r\nhost: f\r\nx: {}\r\n\r\n", "y".repeat(1_000_000)), "431", "headers-too-large"),
        (format!("GET /{} HTTP/1.1\r\nhost: f\r\n\r\n", "a".repeat(70_000)), "414", "target-too-long"),
    ] {
        let received = exchange(&world, &request).await;
        assert_eq!(status_codes(&received), [status], "{received}");
        let (head, body) = received.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("x-dirigent-error: {name}")) && head.contains("connection: close"),
            "{received}"
        );
        assert!(body.starts_with('{') && head.contains(&format!("content-length: {}", body.len())), "{received}");
    }
    assert_eq!(sandbox.sent().await, "");
    let metrics = get(world.admin, "admin", "/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for (name, count) in [("bad-request", 2), ("headers-too-large", 2), ("target-too-long", 1)] {
        let is_so = |line: &str| line.contains(&format!("\"{name}\"")) && line.ends_with(&format!(" {count}"));
        assert!(metrics.lines().any(is_so), "{name}: {metrics}");
    }
}
