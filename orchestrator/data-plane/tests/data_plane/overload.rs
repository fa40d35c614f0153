//! More clients and invocations than a data plane accepts: which are closed, and what the others get.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::wire;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all, ready};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use service::{Accepted, Io, Listener, Network, OsNetwork};
use tokio::{
    io::{DuplexStream, duplex},
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{BufferedResponse, get, open_http2, read, request, spawn_get},
    sandbox::Sandbox,
    world::{World, active, function, until},
};

/// A client that keeps its connection open.
struct KeepAliveClient(SendRequest<Full<Bytes>>);

impl KeepAliveClient {
    async fn connect(to: SocketAddr) -> Self {
        let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(to).await.unwrap())).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn get(&mut self, path: &str) -> BufferedResponse {
        self.0.ready().await.unwrap();
        read(self.0.send_request(request("f", path)).await.unwrap()).await.unwrap()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A data plane with one sandbox of `slots` slots, and bounds set by `change`.
async fn bounded(slots: u32, change: impl FnOnce(&mut data_plane::Config)) -> (World, sim::DataPlaneStream, Sandbox) {
    let mut world = World::with(change).await;
    let mut session = world.accept_stream(vec![wire::FunctionConfig { concurrency: slots, ..function() }]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, slots));
    session.ack(1, |ack| ack.slots == slots).await;
    (world, session, sandbox)
}

#[tokio::test]
async fn idle_connections_are_closed_for_new_ones_and_busy_ones_stay() {
    let (world, _session, sandbox) = bounded(2, |config| config.limits.client_connections = Some(4)).await;
    let busy = spawn_get(world.data_plane, "f", "/hold");
    sandbox.running(1).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = KeepAliveClient::connect(world.data_plane).await;
        assert_eq!(client.get("/").await.status, 200, "client {number}");
        clients.push(client);
    }
    until("all but a few of the idle clients were let go", async || {
        clients.iter().filter(|client| !client.is_closed()).count() <= 4
    })
    .await;
    sandbox.state.gate.add_permits(1);
    assert_eq!(busy.await.unwrap().status, 200);
}

#[tokio::test]
async fn new_connections_are_refused_while_none_is_idle_and_accepted_again_later() {
    let (world, _session, sandbox) = bounded(3, |config| config.limits.client_connections = Some(3)).await;
    let held: Vec<_> = (0..3).map(|_| spawn_get(world.data_plane, "f", "/hold")).collect();
    sandbox.running(3).await;
    let mut refused = KeepAliveClient::connect(world.data_plane).await;
    let response = refused.get("/").await;
    assert_eq!(response.refusal(), (503, "overloaded"));
    assert_eq!(response.header("retry-after"), "1");
    until("the refused client's connection is closed", async || refused.is_closed()).await;
    let over_http2 = http::Request::get("http://f/").body(Full::<Bytes>::default()).unwrap();
    let response = read(open_http2(world.data_plane, over_http2).await.unwrap()).await.unwrap();
    assert_eq!(response.refusal(), (503, "overloaded"));
    let _one_that_says_nothing = TcpStream::connect(world.data_plane).await.unwrap();
    sandbox.state.gate.add_permits(3);
    for invocation in held {
        assert_eq!(invocation.await.unwrap().status, 200);
    }
    until("there is room again", async || get(world.data_plane, "f", "/").await.status == 200).await;
}

#[tokio::test]
async fn connections_without_a_request_block_no_others_for_long() {
    let (world, _session, _sandbox) = bounded(1, |config| config.limits.client_connections = Some(8)).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(world.data_plane).await.unwrap());
    }
    until("somebody who asks is answered", async || {
        let mut client = KeepAliveClient::connect(world.data_plane).await;
        match client.0.send_request(request("f", "/")).await {
            Ok(response) => response.status() == 200,
            Err(_closed) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn invocations_beyond_the_bound_are_refused_whatever_their_function() {
    let mut world = World::with(|config| config.limits.invocations = Some(3)).await;
    let g = wire::FunctionConfig { function: 2, name: "g".to_owned(), ..function() };
    let mut session = world.accept_stream(vec![function(), g]).await;
    let waiting: Vec<_> = (0..3).map(|_| spawn_get(world.data_plane, "f", "/")).collect();
    session.waiting(3).await;
    for function in ["f", "g"] {
        let response = get(world.data_plane, function, "/").await;
        assert_eq!(response.refusal(), (503, "overloaded"), "{function}");
    }
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    for invocation in waiting {
        assert_eq!(invocation.await.unwrap().status, 200, "what was accepted is answered");
    }
    assert_eq!(get(world.data_plane, "f", "/").await.status, 200);
    let metrics = get(world.admin, "admin", "/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.lines().any(|line| line.contains("\"overloaded\"") && line.ends_with(" 2")), "{metrics}");
}

/// A task that takes a millisecond of the test's only thread, which is the data plane's too, and then yields.
fn hog(stop: CancellationToken) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1) {
        std::hint::spin_loop();
    }
    if !stop.is_cancelled() {
        tokio::spawn(async move { hog(stop) });
    }
}

#[tokio::test]
async fn a_share_is_refused_while_the_scheduling_delay_is_long_and_none_afterwards() {
    let (world, _session, _sandbox) = bounded(64, |_| {}).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        let (mut client, refused) = (KeepAliveClient::connect(world.data_plane).await, refused.clone());
        clients.spawn(async move {
            loop {
                let is_refused = client.get("/").await.refusal() == (503, "overloaded");
                refused.fetch_add(usize::from(is_refused), Ordering::SeqCst);
            }
        });
    }
    let stop = CancellationToken::new();
    (0..60).for_each(|_| hog(stop.clone()));
    until("some are refused", async || refused.load(Ordering::SeqCst) > 0).await;
    stop.cancel();
    drop(clients);
    until("none is refused", async || {
        let responses = join_all((0..32).map(|_| get(world.data_plane, "f", "/"))).await;
        responses.iter().all(|response| response.status == 200)
    })
    .await;
}

/// A network that always has another client for listeners of the address; none of them sends anything. Other addresses
/// are as usual.
#[derive(Clone)]
struct Crowd {
    at: SocketAddr,
    /// The clients' ends of the connections accepted.
    clients: Arc<Mutex<Vec<DuplexStream>>>,
}

impl Crowd {
    fn accepted(&self) -> usize {
        self.clients.lock().unwrap().len()
    }
}

impl Network for Crowd {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        if address != self.at {
            return OsNetwork.bind(address);
        }
        Box::pin(ready(Ok(Box::new(self.clone()) as Box<dyn Listener>)))
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        OsNetwork.connect(address)
    }

    fn connect_to(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        OsNetwork.connect_to(address)
    }
}

impl Listener for Crowd {
    fn accept(&self) -> BoxFuture<'_, io::Result<Accepted>> {
        let (server, client) = duplex(1);
        self.clients.lock().unwrap().push(client);
        Box::pin(ready(Ok(Accepted { io: Box::new(server), local: self.at, peer: self.at })))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

#[tokio::test]
async fn accepting_connections_leaves_time_for_other_tasks() {
    const TURNS: usize = 200;
    let crowd = Crowd { at: SocketAddr::from(([127, 0, 0, 1], 1)), clients: Arc::default() };
    let _world = World::on(Arc::new(crowd.clone()), |config| config.invoke = crowd.at).await;
    until("clients are accepted", async || crowd.accepted() > 0).await;
    let before = crowd.accepted();
    let turns = async {
        for _ in 0..TURNS {
            yield_now().await;
        }
    };
    tokio::spawn(turns).await.unwrap();
    let more = crowd.accepted() - before;
    assert!((TURNS / 2..=5 * TURNS).contains(&more), "{more} clients were accepted in {TURNS} turns");
}

/// A process without a free file descriptor for connections to sandboxes; listening goes on.
struct NoDescriptors;

impl Network for NoDescriptors {
    fn bind(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        OsNetwork.bind(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Io>> {
        OsNetwork.connect(address)
    }

    fn connect_to(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<Io>> {
        // EMFILE
        Box::pin(ready(Err(io::Error::from_raw_os_error(24))))
    }
}

#[tokio::test]
async fn a_lack_of_descriptors_is_an_overload_and_no_fault_of_the_sandbox() {
    let mut world = World::on(Arc::new(NoDescriptors), |_| {}).await;
    let mut session = world.accept_stream(vec![function()]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, 1));
    session.ack(1, |ack| ack.slots == 1).await;
    assert_eq!(get(world.data_plane, "f", "/").await.refusal(), (503, "overloaded"));
    assert!(session.failures.is_empty());
}
