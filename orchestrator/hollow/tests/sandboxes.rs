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

async fn invoke(sender: &mut SendRequest<Empty<Bytes>>, run_ms: &str) -> hyper::Result<String> {
    let request = Request::get("/").header("host", "f").header("workload", "trace").header("requested_cpu", run_ms);
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await?;
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn a_sandbox_responds_on_its_own_address_and_no_other() {
    let node = Node::start();
    let (here, elsewhere) = (node.begin(), SocketAddr::from(([127, 200, 0, 1], node.port)));
    let response = invoke(&mut connect(here).await, "0").await.unwrap();
    assert!(response.contains(r#""MachineName":"hollow-7""#), "{response}");
    let refused = invoke(&mut connect(elsewhere).await, "0").await;
    assert!(refused.is_err(), "there is no sandbox on {elsewhere}, it responded {refused:?}");
}

#[tokio::test]
async fn an_ended_sandbox_breaks_running_requests_and_refuses_connections() {
    let node = Node::start();
    let (ended, other) = (node.begin(), node.begin());
    let (mut busy, mut idle, mut bystander) = (connect(ended).await, connect(ended).await, connect(other).await);
    invoke(&mut busy, "0").await.unwrap();
    invoke(&mut idle, "0").await.unwrap();
    let running = tokio::spawn(async move { invoke(&mut busy, "3600000").await });
    assert!(node.sandboxes.end(ended));
    let broken = tokio::time::timeout(Duration::from_secs(10), running).await.expect("breaks at once").unwrap();
    assert!(broken.is_err(), "the request was to run for an hour: {broken:?}");
    assert!(invoke(&mut idle, "0").await.is_err(), "an idle connection to it is closed");
    assert!(invoke(&mut connect(ended).await, "0").await.is_err(), "a new connection to it is reset");
    invoke(&mut bystander, "0").await.expect("another sandbox is not affected");
    assert!(!node.sandboxes.end(ended), "it had ended");
}

#[tokio::test]
async fn a_connection_without_a_sandbox_is_reset_without_a_response() {
    let node = Node::start();
    let mut stream = TcpStream::connect(("127.9.9.9", node.port)).await.unwrap();
    let error = tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let (_, server) = tokio::io::duplex(64);
    let nowhere = SocketAddr::from(([127, 9, 9, 9], 1));
    assert_eq!(node.sandboxes.serve(server, nowhere).await, Err(NotHere(nowhere)));
}

#[tokio::test]
async fn a_listener_of_one_network_resets_connections_to_another() {
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
        let response = invoke(&mut connect(address).await, "0").await.unwrap();
        assert!(response.contains(&format!(r#""MachineName":"{name}""#)), "{address} responded {response}");
    }
    let refused = invoke(&mut connect(outside).await, "0").await;
    assert!(refused.is_err(), "{outside} is no address of the network, it responded {refused:?}");
}

#[tokio::test]
async fn an_address_used_again_serves_its_new_sandbox_only() {
    let node = Node::start();
    let address = node.begin();
    let mut old = connect(address).await;
    invoke(&mut old, "0").await.unwrap();
    let function =
        Function::new(FunctionConfig { mode: Mode::Sleep, machine_name: "new".to_owned(), max_memory_mib: 0 });
    node.sandboxes.begin(address, function);
    assert!(invoke(&mut old, "0").await.is_err(), "connections of the old one are closed");
    assert!(invoke(&mut connect(address).await, "0").await.unwrap().contains("new"));
}

#[tokio::test]
async fn thousands_run_in_one_process() {
    let node = Node::start();
    let addresses: Vec<SocketAddr> = (0..5000).map(|_| node.begin()).collect();
    assert_eq!(node.sandboxes.len(), 5000);
    for address in addresses.iter().step_by(50) {
        invoke(&mut connect(*address).await, "0").await.unwrap();
    }
    assert!(addresses.iter().all(|address| node.sandboxes.end(*address)) && node.sandboxes.is_empty());
}

#[tokio::test]
async fn a_connection_is_accepted_once_it_has_data() {
    let listener = WildcardListener::bind(0).unwrap();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port())).await.unwrap();
    let early = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(early.is_err(), "the client has sent nothing");
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
}
