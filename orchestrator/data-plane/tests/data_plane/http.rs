//! HTTP as clients and functions see it through the data plane.

use api::wire::{self, EndpointState};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    client::{get, open, open_http2, read, request, send, with_body},
    sandbox::Sandbox,
    world::{World, delta, function, with_sandbox},
};

/// One world with `f` over HTTP/1.1 and `g` over h2c, a sandbox each.
async fn both_protocols() -> (World, sim::DataPlaneStream, [Sandbox; 2]) {
    let mut world = World::with(|config| config.host_suffix = vec!["faas.example".to_owned()]).await;
    let g =
        wire::FunctionConfig { function: 2, name: "g".to_owned(), protocol: wire::Protocol::H2c.into(), ..function() };
    let mut session = world.accept_stream(vec![function(), g]).await;
    let sandboxes = [Sandbox::start().await, Sandbox::start().await];
    for (number, sandbox) in (1..).zip(&sandboxes) {
        let delta = delta(number, sandbox.address, 1, EndpointState::Active, 1);
        session.delta(wire::EndpointDelta { function: number, ..delta });
        session.ack(number, |ack| ack.slots == 1).await;
    }
    (world, session, sandboxes)
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port_and_spoken_to_sandboxes() {
    let (world, _session, _sandboxes) = both_protocols().await;
    for host in ["f", "g", "F:8080", "g.faas.example"] {
        let response = get(world.data_plane, host, "/request?x=1").await;
        assert_eq!(response.status, 200, "{host} over HTTP/1.1");
        let uri = format!("http://{host}/request?x=1");
        let over_http2 = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let response = read(open_http2(world.data_plane, over_http2).await.unwrap()).await.unwrap();
        assert_eq!(response.status, 200, "{host} over HTTP/2");
        let text = String::from_utf8(response.body.to_vec()).unwrap();
        let spoken = if host.to_lowercase().starts_with('f') { "HTTP/1.1" } else { "HTTP/2.0" };
        assert!(text.lines().next().unwrap().ends_with(spoken), "{host}: {text}");
        assert!(text.contains("/request?x=1"), "{host}: {text}");
    }
}

#[tokio::test]
async fn header_fields_are_forwarded_as_by_a_proxy() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    let mut sent = request("f", "/request");
    for (name, value) in [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("upgrade", "websocket"),
        ("x-dirigent-cold", "1"),
        ("x-forwarded-for", "9.9.9.9"),
        ("traceparent", "00-a-b-01"),
        ("x-request-id", "mine"),
    ] {
        sent.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = send(world.data_plane, sent).await.unwrap();
    let seen = String::from_utf8(response.body.to_vec()).unwrap();
    for kept in ["host: f", "traceparent: 00-a-b-01", "x-request-id: mine", "via: 1.1 dirigent"] {
        assert!(seen.lines().any(|line| line == kept), "{kept} is missing in\n{seen}");
    }
    assert!(seen.contains("x-forwarded-for: 9.9.9.9, 127.0.0.1"), "{seen}");
    for dropped in ["x-hop", "upgrade", "x-dirigent", "connection"] {
        assert!(!seen.contains(dropped), "{dropped} is still in\n{seen}");
    }
    assert_eq!(
        (response.header("x-own"), response.header("x-private"), response.header("x-dirigent-error")),
        ("kept", "", "")
    );
    let made = get(world.data_plane, "f", "/request").await;
    let made = String::from_utf8(made.body.to_vec()).unwrap();
    let id = made.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id is made");
    assert_eq!(id.len(), 32);
}

#[tokio::test]
async fn head_has_the_length_but_no_body() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    let head = Request::head("/").header("host", "f").body(Full::<Bytes>::default()).unwrap();
    let response = send(world.data_plane, head).await.unwrap();
    assert_eq!((response.status.as_u16(), response.header("content-length"), response.body.len()), (200, "1234", 0));
    assert_eq!(get(world.data_plane, "f", "/").await.body, "ok", "the connection to the sandbox is in step");
}

#[tokio::test]
async fn large_bodies_stream_both_ways_in_both_protocols() {
    const CHUNK: usize = 64 * 1024;
    const CHUNKS: usize = 128;
    let (world, _session, _sandboxes) = both_protocols().await;
    for (host, http2) in [("f", false), ("f", true), ("g", false), ("g", true)] {
        let frames = futures::stream::iter(0..CHUNKS)
            .map(|index| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![index.to_le_bytes()[0]; CHUNK]))));
        let builder = Request::post(if http2 { format!("http://{host}/echo") } else { "/echo".to_owned() });
        let builder = if http2 { builder } else { builder.header("host", host) };
        let request = builder.body(StreamBody::new(frames)).unwrap();
        let (response, _connection) = if http2 {
            (open_http2(world.data_plane, request).await.unwrap(), tokio::spawn(async {}))
        } else {
            open(world.data_plane, request).await.unwrap()
        };
        let body = read(response).await.unwrap().body;
        assert_eq!(body.len(), CHUNK * CHUNKS, "{host}, HTTP/2 {http2}");
        assert!(
            body.chunks(CHUNK).enumerate().all(|(index, chunk)| chunk.iter().all(|b| *b == index.to_le_bytes()[0]))
        );
    }
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it_from_either_protocol_to_either() {
    let (world, _session, _sandboxes) = both_protocols().await;
    for host in ["f", "g"] {
        let body =
            || StreamBody::new(futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from("abc")))]));
        let over_http2 = Request::get(format!("http://{host}/echo")).body(body()).unwrap();
        let response = read(open_http2(world.data_plane, over_http2).await.unwrap()).await.unwrap();
        assert_eq!(response.body, "abc", "{host} over HTTP/2");
        let builder = Request::get("/echo").header("host", host).header("transfer-encoding", "chunked");
        let response = send(world.data_plane, builder.body(body()).unwrap()).await.unwrap();
        assert_eq!(response.body, "abc", "{host} over HTTP/1.1");
    }
}

#[tokio::test]
async fn trailers_and_small_responses_are_forwarded() {
    let (world, _session, _sandboxes) = both_protocols().await;
    let http2 = Request::get("http://g/trailers").header("te", "trailers").body(Full::<Bytes>::default()).unwrap();
    let responded = open_http2(world.data_plane, http2).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(responded.trailers().unwrap()["x-sum"], "7");
    let mut http1 = request("f", "/trailers");
    http1.headers_mut().insert("te", "trailers".parse().unwrap());
    http1.headers_mut().insert("connection", "te".parse().unwrap());
    let (response, _connection) = open(world.data_plane, http1).await.unwrap();
    let responded = response.into_body().collect().await.unwrap();
    assert_eq!(responded.trailers().unwrap()["x-sum"], "7");
    assert_eq!(responded.to_bytes(), "body");
}

#[tokio::test]
async fn requests_beyond_the_limits_are_refused() {
    let mut world = World::with(|config| {
        config.limits.body = bytesize::ByteSize::kib(1);
        config.limits.header_bytes = bytesize::ByteSize::kib(4);
        config.limits.header_count = 96;
    })
    .await;
    let session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(super::world::active(1, &sandbox, 1));
    let long = with_body(Method::POST, "f", "/echo", vec![0; 2048]);
    assert_eq!(send(world.data_plane, long).await.unwrap().refusal(), (413, "body-too-large"));
    let mut many = request("f", "/");
    many.headers_mut().insert("x-long", "y".repeat(5000).parse().unwrap());
    assert_eq!(send(world.data_plane, many).await.unwrap().refusal(), (431, "headers-too-large"));
    let mut many = request("f", "/");
    for index in 0..98 {
        many.headers_mut().insert(http::HeaderName::try_from(format!("x-{index}")).unwrap(), "1".parse().unwrap());
    }
    assert_eq!(send(world.data_plane, many).await.unwrap().refusal(), (431, "headers-too-large"));
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
}

/// The bytes received for raw input, until the data plane closes or has sent `enough`.
async fn raw(world: &World, bytes: &str, enough: &str) -> String {
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    connection.write_all(bytes.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    let receive = async {
        while !String::from_utf8_lossy(&received).contains(enough) {
            let count = connection.read(&mut buffer).await.unwrap();
            if count == 0 {
                break;
            }
            received.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(sim::WAIT_TIMEOUT, receive).await.expect("an answer comes");
    String::from_utf8(received).unwrap()
}

#[tokio::test]
async fn requests_without_one_clear_host_and_connect_are_refused() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    for bad in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nhost: f\r\nhost: g\r\n\r\n"] {
        let received = raw(&world, bad, "\r\n\r\n").await;
        assert!(
            received.starts_with("HTTP/1.1 400 ") && received.contains("x-dirigent-error: bad-request"),
            "{received}"
        );
    }
    let received = raw(&world, "CONNECT f:80 HTTP/1.1\r\nhost: f\r\n\r\n", "\r\n\r\n").await;
    assert!(received.starts_with("HTTP/1.1 501 "), "{received}");
    let received = raw(&world, "GET http://f/request HTTP/1.1\r\nhost: other\r\n\r\n", "dirigent").await;
    assert!(received.starts_with("HTTP/1.1 200 "), "the target names the host: {received}");
}

#[tokio::test]
async fn a_refusal_names_its_problem_type_and_the_wrong_part_of_the_request() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    for (request, kind, field, detail) in [
        ("GET / HTTP/1.1\r\n\r\n", "bad-request", "\"host\"", "the request must name exactly one host"),
        ("GET /a#b HTTP/1.1\r\nhost: f\r\n\r\n", "bad-request", "\"target\"", "the target must have no fragment"),
        ("GET /a b HTTP/1.1\r\nhost: f\r\n\r\n", "bad-request", "\"head\"", "the request's head cannot be read"),
        (
            "GET / HTTP/1.1\r\nhost: nobody\r\n\r\n",
            "unknown-function",
            "null",
            "no function of that name is registered",
        ),
    ] {
        let received = raw(&world, request, "}").await;
        let body = received.split_once("\r\n\r\n").unwrap().1;
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        let seen =
            (problem["type"].as_str().unwrap(), problem["field"].to_string(), problem["detail"].as_str().unwrap());
        assert_eq!(
            seen,
            (&*format!("urn:dirigent:problem:{kind}"), field.to_owned(), detail),
            "{request:?}: {received}"
        );
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: f\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut received = [0; 25];
    connection.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write_all(b"hello").await.unwrap();
    let mut rest = vec![0; 4096];
    let mut text = String::new();
    while !text.contains("hello") {
        let count = connection.read(&mut rest).await.unwrap();
        assert!(count > 0, "the answer is complete before the end: {text}");
        text.push_str(std::str::from_utf8(&rest[..count]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}

#[tokio::test]
async fn a_body_that_was_read_to_its_end_keeps_its_connection() {
    let (world, _session, _sandbox) = with_sandbox(1).await;
    for length in [1, 1024, 1025, 20_000, 300_000] {
        let request =
            format!("PUT /count HTTP/1.1\r\nHost: f\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
        let last = "GET / HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\n";
        let mut connection = TcpStream::connect(world.data_plane).await.unwrap();
        connection.write_all(format!("{request}{request}{last}").as_bytes()).await.unwrap();
        let mut responses = String::new();
        connection.read_to_string(&mut responses).await.unwrap();
        let responses = responses.to_lowercase();
        let count = |what: &str| responses.matches(what).count();
        assert_eq!(count("http/1.1 200"), 3, "{length}: {responses}");
        assert_eq!(count(&format!("\r\n\r\n{length}")), 2, "{length}: {responses}");
        assert_eq!(count("connection: close"), 1, "of the last alone, {length}: {responses}");
    }
}
