//! Measures the CPU time of a warm invocation in this data plane: `cargo run --release -p data-plane --example warm`.
//!
//! Load, sandboxes and control plane run on threads of their own; the CPU time of the data plane's threads is read from
//! the kernel. With `floor` as argument, a proxy that only copies bytes stands in for the data plane: what two loopback
//! hops cost on this machine. Further arguments: connections (64), seconds (5).
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a measurement fails by panicking")]

use std::{convert::Infallible, io::Write, net::SocketAddr, sync::Arc, time::Duration};

use api::wire;
use bytes::Bytes;
use data_plane::{Config, Handle, Service};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn};
use hyper_util::rt::TokioIo;
use service::{ANY_LOOPBACK, Network, OsNetwork};
use sim::ControlPlane;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::Instant,
};

/// Name of the threads that are measured (the kernel keeps 15 characters).
const MEASURED: &str = "measured";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let floor = arguments.iter().any(|argument| argument == "floor");
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let (connections, seconds) = (numbers.next().unwrap_or(64), numbers.next().unwrap_or(5));
    let around = runtime("around", 1);
    let measured = runtime(MEASURED, 2);
    let sandbox = around.block_on(sandbox());
    let (target, _keep) = if floor {
        (measured.block_on(copying_proxy(sandbox)), None)
    } else {
        let (handle, session) = around.block_on(data_plane(&measured, sandbox, connections));
        (handle.addresses().invoke, Some((handle, session)))
    };
    around.block_on(load(target, connections, Duration::from_secs(1)));
    let before = cpu_ns();
    let latencies = around.block_on(load(target, connections, Duration::from_secs(seconds)));
    let cpu_ns = cpu_ns() - before;
    let count = latencies.len();
    let at = |percent: usize| latencies[(count - 1) * percent / 100];
    // The reader may have gone.
    let _ = writeln!(
        std::io::stdout(),
        "{count} requests, {} per second, {:.1} CPU-us each, latency us p50 {} p99 {}",
        count as u64 / seconds,
        cpu_ns as f64 / 1000.0 / count as f64,
        at(50),
        at(99),
    );
}

fn runtime(name: &str, threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build().unwrap()
}

/// CPU time of the measured threads so far.
fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let measured = tasks.filter_map(|task| {
        let path = task.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let schedstat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        (name.trim() == MEASURED).then(|| schedstat.split(' ').next().unwrap().parse::<u64>().unwrap())
    });
    measured.sum()
}

async fn sandbox() -> SocketAddr {
    let listener = OsNetwork.bind(ANY_LOOPBACK).await.unwrap();
    let address = listener.local_address().unwrap();
    tokio::spawn(async move {
        loop {
            let io = TokioIo::new(listener.accept().await.unwrap().io);
            let service = service_fn(async |_request: Request<Incoming>| {
                let body = r#"{"Status":"ok","Function":"f","MachineName":"m","ExecutionTime":0}"#;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(body.as_bytes()))))
            });
            tokio::spawn(server::Builder::new().serve_connection(io, service));
        }
    });
    address
}

async fn data_plane(runtime: &Runtime, sandbox: SocketAddr, slots: u64) -> (Handle, sim::DataPlaneStream) {
    let mut control_plane = ControlPlane::start().await;
    let control_planes = vec![control_plane.address.to_string()];
    let config = Config { invoke: ANY_LOOPBACK, admin: ANY_LOOPBACK, control_planes, ..Config::default() };
    let network: Arc<dyn Network> = Arc::new(OsNetwork);
    let handle = runtime.spawn(Service::start(config, network)).await.unwrap().unwrap();
    let mut session = control_plane.data_plane().await;
    let function = wire::FunctionConfig {
        function: 1,
        revision: 1,
        name: "f".to_owned(),
        protocol: wire::Protocol::Http1.into(),
        concurrency: 1,
        timeout_ms: 10_000,
        queue_deadline_ms: 10_000,
        queue_limit: 10_000,
        balance: String::new(),
        retry: wire::Retry::Idempotent.into(),
        connection_idle_ms: None,
    };
    session.welcome(1, vec![function]);
    // As in production, each sandbox has one slot.
    for number in 1..=slots {
        session.delta(wire::EndpointDelta {
            function: 1,
            sandbox: number,
            revision: 1,
            address: sandbox.to_string(),
            slots: 1,
            state: wire::EndpointState::Active.into(),
            version: 1,
            ready_age_us: 0,
        });
    }
    session.ack(slots, |_| true).await;
    std::mem::forget(control_plane);
    (handle, session)
}

/// Copies bytes between a client and a connection of its own to the sandbox.
async fn copying_proxy(sandbox: SocketAddr) -> SocketAddr {
    let listener = OsNetwork.bind(ANY_LOOPBACK).await.unwrap();
    let address = listener.local_address().unwrap();
    tokio::spawn(async move {
        loop {
            let mut down = listener.accept().await.unwrap().io;
            tokio::spawn(async move {
                let mut up = TcpStream::connect(sandbox).await.unwrap();
                up.set_nodelay(true).unwrap();
                let mut buffer = [0; 4096];
                loop {
                    let count = down.read(&mut buffer).await.unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    up.write_all(&buffer[..count]).await.unwrap();
                    let count = up.read(&mut buffer).await.unwrap();
                    if down.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Closed loop on `connections`; every latency in microseconds, sorted.
async fn load(to: SocketAddr, connections: u64, span: Duration) -> Vec<u64> {
    let end = Instant::now() + span;
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(to).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let begun = Instant::now();
                    let request = Request::get("/invoke").header("host", "f").body(Full::<Bytes>::default()).unwrap();
                    let response = sender.send_request(request).await.unwrap();
                    assert_eq!(response.status(), 200);
                    response.into_body().collect().await.unwrap();
                    latencies.push(u64::try_from(begun.elapsed().as_micros()).unwrap());
                    sender.ready().await.unwrap();
                }
                latencies
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.unwrap());
    }
    all.sort_unstable();
    all
}
