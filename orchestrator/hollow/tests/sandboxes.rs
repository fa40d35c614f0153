//! Hollow sandboxes through real sockets: each on its own address, gone at once when ended, thousands at a time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use hollow::{AddressPool, Function, FunctionConfig, Mode, Network, NotHere, Sandboxes, WildcardListener};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

/// One listener and its sandboxes; ends with the test's runtime.
struct Node {
    sandboxes: Arc<Sandboxes>,
    addresses: Mutex<AddressPool>,
    function: Arc<Function>,
    port: u16,
}

impl Node {
    fn start() -> Self {
        let listener = WildcardListener::bind(0).unwrap();
        let (port, sandboxes) = (listener.port(), Arc::new(Sandboxes::default()));
        tokio::spawn(listener.serve(Arc::clone(&sandboxes), CancellationToken::new()));
        let function =
            Function::new(FunctionConfig { mode: Mode::Sleep, machine_name: "hollow-7".to_owned(), max_memory_mib: 0 });
        Self { sandboxes, addresses: Mutex::new(AddressPool::loopback()), function, port }
    }

    fn begin(&self) -> SocketAddr {
        let address = SocketAddr::from((self.addresses.lock().unwrap().take().unwrap(), self.port));
        self.sandboxes.begin(address, Arc::clone(&self.function));
        address
    }
}

async fn connect(address: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, run_ms: &str) -> hyper::Result<String> {
    let request = Request::get("/").header("host", "f").header("workload", "trace").header("requested_cpu", run_ms);
    let answer = sender.send_request(request.body(Empty::new()).unwrap()).await?;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn a_sandbox_answers_on_its_own_address_and_no_other() {
    let node = Node::start();
    let (here, elsewhere) = (node.begin(), SocketAddr::from(([127, 200, 0, 1], node.port)));
    let answer = ask(&mut connect(here).await, "0").await.unwrap();
    assert!(answer.contains(r#""MachineName":"hollow-7""#), "{answer}");
    let refused = ask(&mut connect(elsewhere).await, "0").await;
    assert!(refused.is_err(), "nobody lives on {elsewhere}, it answered {refused:?}");
}

#[tokio::test]
async fn an_ended_sandbox_breaks_what_runs_and_refuses_what_comes() {
    let node = Node::start();
    let (ended, other) = (node.begin(), node.begin());
    let (mut busy, mut idle, mut bystander) = (connect(ended).await, connect(ended).await, connect(other).await);
    ask(&mut busy, "0").await.unwrap();
    ask(&mut idle, "0").await.unwrap();
    let running = tokio::spawn(async move { ask(&mut busy, "3600000").await });
    assert!(node.sandboxes.end(ended));
    let broken = tokio::time::timeout(Duration::from_secs(10), running).await.expect("breaks at once").unwrap();
    assert!(broken.is_err(), "the request was to run for an hour: {broken:?}");
    assert!(ask(&mut idle, "0").await.is_err(), "an idle connection to it is closed");
    assert!(ask(&mut connect(ended).await, "0").await.is_err(), "a new connection to it is reset");
    ask(&mut bystander, "0").await.expect("another sandbox does not notice");
    assert!(!node.sandboxes.end(ended), "it had ended");
}

#[tokio::test]
async fn a_connection_to_nobody_is_reset_without_an_answer() {
    let node = Node::start();
    let mut stream = TcpStream::connect(("127.9.9.9", node.port)).await.unwrap();
    let error = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (_, server) = tokio::io::duplex(64);
    let nowhere = SocketAddr::from(([127, 9, 9, 9], 1));
    assert_eq!(node.sandboxes.serve(server, nowhere).await, Err(NotHere(nowhere)));
}

#[tokio::test]
async fn a_listener_of_one_network_resets_what_is_for_another() {
    let pods = Network { first: Ipv4Addr::new(127, 77, 0, 0), prefix: 16 };
    let listener = WildcardListener::bind_network(0, pods).unwrap();
    let (port, sandboxes) = (listener.port(), Arc::new(Sandboxes::default()));
    tokio::spawn(listener.serve(Arc::clone(&sandboxes), CancellationToken::new()));
    let function =
        Function::new(FunctionConfig { mode: Mode::Sleep, machine_name: "node".to_owned(), max_memory_mib: 0 });
    let [first, last, outside] =
        [[127, 77, 0, 1], [127, 77, 255, 254], [127, 78, 0, 1]].map(|ip| SocketAddr::from((ip, port)));
    for (address, name) in [(first, "pod-1"), (last, "pod-2"), (outside, "pod-3")] {
        sandboxes.begin(address, function.as_pod(name));
    }
    for (address, name) in [(first, "pod-1"), (last, "pod-2")] {
        let answer = ask(&mut connect(address).await, "0").await.unwrap();
        assert!(answer.contains(&format!(r#""MachineName":"{name}""#)), "{address} answered {answer}");
    }
    let refused = ask(&mut connect(outside).await, "0").await;
    assert!(refused.is_err(), "{outside} is no address of the network, it answered {refused:?}");
}

#[tokio::test]
async fn an_address_used_again_serves_its_new_sandbox_only() {
    let node = Node::start();
    let address = node.begin();
    let mut old = connect(address).await;
    ask(&mut old, "0").await.unwrap();
    let function =
        Function::new(FunctionConfig { mode: Mode::Sleep, machine_name: "new".to_owned(), max_memory_mib: 0 });
    node.sandboxes.begin(address, function);
    assert!(ask(&mut old, "0").await.is_err(), "connections of the old one are closed");
    assert!(ask(&mut connect(address).await, "0").await.unwrap().contains("new"));
}

#[tokio::test]
async fn thousands_live_in_one_process() {
    let node = Node::start();
    let addresses: Vec<SocketAddr> = (0..5000).map(|_| node.begin()).collect();
    assert_eq!(node.sandboxes.len(), 5000);
    for address in addresses.iter().step_by(50) {
        ask(&mut connect(*address).await, "0").await.unwrap();
    }
    assert!(addresses.iter().all(|address| node.sandboxes.end(*address)) && node.sandboxes.is_empty());
}

#[tokio::test]
async fn a_connection_is_taken_when_there_is_something_to_read() {
    let listener = WildcardListener::bind(0).unwrap();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port())).await.unwrap();
    let early = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(early.is_err(), "nobody has said anything");
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (taken, _) = listener.accept().await.unwrap();
    assert_eq!(taken.peer_addr().unwrap(), client.local_addr().unwrap());
}
