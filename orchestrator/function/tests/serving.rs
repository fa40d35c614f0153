//! The function through real sockets: both protocols, what its headers do, and what bad ones get.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use function::{Function, FunctionConfig, Mode};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// A function on a loopback port; ends with the test's runtime.
async fn serve(mode: Mode) -> SocketAddr {
    serve_function(Function::new(FunctionConfig { mode, machine_name: "machine \"1\"".to_owned(), max_memory_mib: 64 }))
        .await
}

/// The same for a function made elsewhere.
async fn serve_function(function: Arc<Function>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&function).serve_connection(stream, CancellationToken::new()));
        }
    });
    address
}

fn request(headers: &[(&str, &str)], body: &'static [u8]) -> Request<Full<Bytes>> {
    let builder =
        headers.iter().fold(Request::post("/any/path?at=all"), |builder, (name, value)| builder.header(*name, *value));
    builder.header("host", "f").body(Full::new(Bytes::from_static(body))).unwrap()
}

async fn http1(address: SocketAddr, request: Request<Full<Bytes>>) -> hyper::Result<(http::response::Parts, Bytes)> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    read(sender.send_request(request).await?).await
}

async fn h2c(address: SocketAddr, request: Request<Full<Bytes>>) -> hyper::Result<(http::response::Parts, Bytes)> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    read(sender.send_request(request).await?).await
}

async fn read(response: Response<hyper::body::Incoming>) -> hyper::Result<(http::response::Parts, Bytes)> {
    let (head, body) = response.into_parts();
    Ok((head, body.collect().await?.to_bytes()))
}

/// CPU time of this whole process.
fn process_cpu() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap())
}

#[tokio::test]
async fn both_protocols_respond_alike_on_one_port() {
    let address = serve(Mode::Sleep).await;
    let headers = [("workload", "trace"), ("function", "f-1"), ("requested_cpu", "3"), ("requested_memory", "1")];
    for (head, body) in [
        http1(address, request(&headers, b"some body")).await.unwrap(),
        h2c(address, request(&headers, b"some body")).await.unwrap(),
    ] {
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["content-type"], "application/json");
        assert_eq!(head.headers["content-length"], body.len().to_string().as_str());
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["Status"], "OK");
        assert_eq!(json["Function"], "f-1");
        assert_eq!(json["MachineName"], "machine \"1\"");
        let executed_us = json["ExecutionTime"].as_u64().unwrap();
        assert!(executed_us >= 3000, "3 ms were asked for, it says {executed_us} µs");
        assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
    }
}

#[tokio::test]
async fn an_empty_workload_and_a_bare_request_respond_at_once() {
    let address = serve(Mode::Spin).await;
    for headers in [&[("workload", "empty"), ("requested_cpu", "60000")][..], &[]] {
        let (head, body) = http1(address, request(headers, b"")).await.unwrap();
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((head.status, &json["Status"]), (StatusCode::OK, &Value::from("OK - EMPTY")));
        assert_eq!(json["Function"], "");
    }
}

#[tokio::test]
async fn a_bad_header_is_refused_and_named_and_the_connection_lives_on() {
    let address = serve(Mode::Sleep).await;
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    for (name, value) in [("requested_cpu", "soon"), ("requested_memory", "-4"), ("io_percentage", "101")] {
        let mut headers = vec![("workload", "trace"), (name, value)];
        if name != "requested_cpu" {
            headers.push(("requested_cpu", "1"));
        }
        let (head, body) = read(sender.send_request(request(&headers, b"")).await.unwrap()).await.unwrap();
        assert_eq!(head.status, StatusCode::BAD_REQUEST, "{name}: {value}");
        let json: Value = serde_json::from_slice(&body).unwrap();
        let status = json["Status"].as_str().unwrap();
        assert!(status.contains(name) && status.contains(value), "{status}");
    }
}

#[tokio::test]
async fn spinning_costs_the_requested_cpu_time() {
    let address = serve(Mode::Spin).await;
    let spin = [("workload", "trace"), ("requested_cpu", "200"), ("multiplier", "102")];
    let before = process_cpu();
    let (_, body) = http1(address, request(&spin, b"")).await.unwrap();
    let spent = process_cpu() - before;
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert!(json["ExecutionTime"].as_u64().unwrap() >= 199_900, "{json}");
    // The bound above has room for the other tests of this process.
    assert!(spent >= Duration::from_micros(199_900), "200 ms were asked for, {spent:?} of CPU were used");
}

#[tokio::test]
async fn the_waiting_share_is_not_computed() {
    let address = serve(Mode::Spin).await;
    let mixed = [("workload", "trace"), ("requested_cpu", "400"), ("io_percentage", "100")];
    let (began, before) = (Instant::now(), process_cpu());
    http1(address, request(&mixed, b"")).await.unwrap();
    let spent = process_cpu() - before;
    assert!(began.elapsed() >= Duration::from_millis(400), "400 ms were asked for, it took {:?}", began.elapsed());
    // Another test spins at the same time for 200 ms.
    assert!(spent < Duration::from_millis(350), "all of it was to be waited, {spent:?} of CPU were used");
}

#[tokio::test(start_paused = true)]
async fn sleeping_follows_the_simulated_clock() {
    let function = Function::new(FunctionConfig { mode: Mode::Sleep, machine_name: "m".to_owned(), max_memory_mib: 0 });
    let (client, server) = tokio::io::duplex(4096);
    tokio::spawn(function.serve_connection(server, CancellationToken::new()));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let hour = [("workload", "trace"), ("requested_cpu", "3600000"), ("requested_memory", "100")];
    let (_, body) = read(sender.send_request(request(&hour, b"")).await.unwrap()).await.unwrap();
    let json: Value = serde_json::from_slice(&body).unwrap();
    let executed_us = json["ExecutionTime"].as_u64().unwrap();
    assert!((3_600_000_000..3_600_002_000).contains(&executed_us), "an hour was asked for, it says {executed_us} µs");
}

#[tokio::test]
async fn more_memory_than_configured_is_cut_to_the_bound() {
    let address = serve(Mode::Sleep).await;
    let greedy = [("workload", "trace"), ("requested_cpu", "0"), ("requested_memory", "4000000000")];
    let (head, body) = http1(address, request(&greedy, b"")).await.unwrap();
    assert_eq!(head.status, StatusCode::OK, "{body:?}");
}

#[tokio::test]
async fn a_pod_responds_to_probes_under_its_own_name_and_others_do_not() {
    let config = FunctionConfig { mode: Mode::Sleep, machine_name: "node".to_owned(), max_memory_mib: 0 };
    let plain = Function::new(config);
    for (function, probed, name) in [(plain.as_pod("pod-1"), "queue", "pod-1"), (plain, "", "node")] {
        let send = async |headers: &[(&str, &str)]| {
            let (client, server) = tokio::io::duplex(4096);
            tokio::spawn(Arc::clone(&function).serve_connection(server, CancellationToken::new()));
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
            tokio::spawn(connection);
            read(sender.send_request(request(headers, b"")).await.unwrap()).await.unwrap()
        };
        let (head, body) = send(&[("k-network-probe", "queue")]).await;
        assert_eq!((head.status, body == probed), (StatusCode::OK, !probed.is_empty()), "{name}: {body:?}");
        let (head, _) = send(&[("k-network-probe", "activator")]).await;
        let expected = if probed.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        assert_eq!(head.status, expected, "{name}: a probe for somebody else");
        let (_, body) = send(&[("workload", "empty"), ("function", "f")]).await;
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&json["MachineName"], &json["Function"]), (&name.into(), &"f".into()));
    }
}

#[tokio::test]
async fn a_probe_gets_a_response_over_both_protocols() {
    let config = FunctionConfig { mode: Mode::Sleep, machine_name: "node".to_owned(), max_memory_mib: 0 };
    let address = serve_function(Function::new(config).as_pod("pod-1")).await;
    let probe = |value| request(&[("k-network-probe", value)], b"");
    for (value, status) in [("queue", StatusCode::OK), ("activator", StatusCode::BAD_REQUEST)] {
        let responses = [http1(address, probe(value)).await.unwrap(), h2c(address, probe(value)).await.unwrap()];
        for (head, body) in responses {
            assert_eq!((head.status, body == "queue"), (status, status == StatusCode::OK), "{value}: {body:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_counts_its_invocations_so_that_it_can_drain() {
    let config = FunctionConfig { mode: Mode::Sleep, machine_name: "node".to_owned(), max_memory_mib: 0 };
    let plain = Function::new(config);
    for (function, expected) in [(plain.as_pod("pod-1"), 1), (plain, 0)] {
        let (client, server) = tokio::io::duplex(4096);
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&function).serve_connection(server, shutdown.clone()));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let send = |run_ms: &'static str| request(&[("workload", "trace"), ("requested_cpu", run_ms)], b"");
        read(sender.send_request(send("5")).await.unwrap()).await.unwrap();
        assert_eq!(function.running(), 0, "answered");
        let mut hour = tokio::spawn(async move { sender.send_request(send("3600000")).await });
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut hour).await.is_err(), "it was to run for an hour");
        assert_eq!(function.running(), expected, "under way");
        shutdown.cancel();
        assert!(hour.await.unwrap().is_err());
        assert_eq!(function.running(), 0, "broken off");
        assert_eq!(function.begun(), 2 * expected, "both had come");
    }
}

/// The clock is simulated: it moves only when nothing else can, so after the first second the request runs.
#[tokio::test(start_paused = true)]
async fn shutting_down_aborts_running_requests() {
    for protocol in ["HTTP/1.1", "h2c"] {
        let function =
            Function::new(FunctionConfig { mode: Mode::Sleep, machine_name: "m".to_owned(), max_memory_mib: 0 });
        let (client, server) = tokio::io::duplex(4096);
        let (client, shutdown) = (TokioIo::new(client), CancellationToken::new());
        tokio::spawn(function.serve_connection(server, shutdown.clone()));
        let hour = request(&[("workload", "trace"), ("requested_cpu", "3600000")], b"");
        let mut response = if protocol == "h2c" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), client).await.unwrap();
            tokio::spawn(connection);
            tokio::spawn(async move { sender.send_request(hour).await })
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(client).await.unwrap();
            tokio::spawn(connection);
            tokio::spawn(async move { sender.send_request(hour).await })
        };
        let early = tokio::time::timeout(Duration::from_secs(1), &mut response).await;
        assert!(early.is_err(), "{protocol}: the request was to run for an hour");
        shutdown.cancel();
        let result = tokio::time::timeout(Duration::from_secs(1), response).await.expect("ends at once").unwrap();
        assert!(result.is_err(), "{protocol}: a broken connection was expected");
    }
}
