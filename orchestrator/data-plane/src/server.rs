//! Taking invocations: the connections of clients, HTTP/1.1 and HTTP/2 on one port, until they have ended.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use api::{Accepted, Io, Listener};
use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{function::FunctionState, headers::ClientFields, invocation::serve, plane::Plane, refusal::Cause};

/// Wait after a failed accept (no file descriptor is free, mostly): connections end meanwhile.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(20);
/// After the drain deadline, time for the last refusals to reach their clients.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Room in a connection's buffer beside the largest header section.
const BUFFER_BYTES: usize = 64 * 1024;
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;

/// One client's connection, as its requests see it.
pub(crate) struct Client {
    pub(crate) plane: Arc<Plane>,
    pub(crate) fields: ClientFields,
    /// Requests whose answers have not left.
    open: AtomicU32,
    /// Requests so far.
    requests: AtomicU64,
}

/// A request whose answer has not left.
pub(crate) struct OpenRequest {
    client: Arc<Client>,
    answered: bool,
}

impl Client {
    fn new(plane: Arc<Plane>, peer: SocketAddr) -> Self {
        let address = HeaderValue::from_str(&peer.ip().to_string()).expect("an address is visible ASCII");
        let fields = ClientFields { forwarded_for: address };
        Self { plane, fields, open: AtomicU32::new(0), requests: AtomicU64::new(0) }
    }

    /// A request has come.
    pub(crate) fn request(self: &Arc<Self>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        OpenRequest { client: self.clone(), answered: false }
    }
}

impl OpenRequest {
    /// The head of its answer is there.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.client.open.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.client.plane.metrics.client_gone();
        }
    }
}

/// Serves clients until `stopping`; then lets what has begun end, until the drain deadline, while new requests are
/// answered 503.
pub(crate) async fn run(plane: Arc<Plane>, listener: Box<dyn Listener>, stopping: CancellationToken) {
    let mut server = Server { builder: Arc::new(builder(&plane)), plane, listener, stopping };
    let mut connections = JoinSet::new();
    let stopping = server.stopping.clone();
    tokio::select! {
        biased;
        () = stopping.cancelled() => {}
        () = server.accept_into(&mut connections) => {}
    }
    let plane = server.plane.clone();
    plane.set_stopping();
    let deadline = Instant::now() + plane.config.drain_deadline;
    // Connections of clients that come during the drain; they only hear that we are leaving.
    let mut late = JoinSet::new();
    let drained = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        () = drained => return,
        () = sleep_until(deadline) => {}
        () = server.accept_into(&mut late) => {}
    }
    tracing::warn!(left = connections.len(), "drain deadline passed");
    for function in plane.functions.all() {
        let refusal = Cause::ShuttingDown.plain();
        function.change(|state: &mut FunctionState, now_us, effects| state.refuse_all(&refusal, now_us, effects));
    }
    sleep(LAST_WORDS).await;
}

struct Server {
    builder: Arc<auto::Builder<TokioExecutor>>,
    plane: Arc<Plane>,
    listener: Box<dyn Listener>,
    stopping: CancellationToken,
}

impl Server {
    /// Takes connections for ever.
    async fn accept_into(&mut self, connections: &mut JoinSet<()>) {
        let limit = self.plane.config.limits.client_connections();
        loop {
            tokio::select! {
                biased;
                Some(_ended) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < limit => match accepted {
                    Ok(Accepted { io, peer, .. }) => {
                        let client = Arc::new(Client::new(self.plane.clone(), peer));
                        connections.spawn(carry(self.builder.clone(), io, client, self.stopping.child_token()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_BACK_OFF).await;
                    }
                }
            }
        }
    }
}

fn builder(plane: &Plane) -> auto::Builder<TokioExecutor> {
    let header_bytes = usize::try_from(plane.config.limits.header_bytes.as_u64()).unwrap_or(usize::MAX / 2);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(header_bytes + BUFFER_BYTES);
    builder
        .http2()
        .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// Serves one connection until it ends, is idle for too long, or this data plane stops and its requests are answered.
async fn carry(builder: Arc<auto::Builder<TokioExecutor>>, io: Io, client: Arc<Client>, stopping: CancellationToken) {
    let service = service_fn(|request| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(serve(client, request).await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let idle = client.plane.config.limits.client_idle;
    let mut looks = interval_at(Instant::now() + idle, idle);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    let mut leaving = client.plane.is_stopping();
    let mut stopped = std::pin::pin!(stopping.cancelled());
    loop {
        tokio::select! {
            biased;
            // Its errors are the client's: a broken message or a closed connection.
            _ended = connection.as_mut() => return,
            () = stopped.as_mut(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                let requests = client.requests.load(Ordering::Relaxed);
                let idle = requests == seen && client.open.load(Ordering::Relaxed) == 0;
                if idle && leaving {
                    return;
                }
                if idle {
                    leaving = true;
                    connection.as_mut().graceful_shutdown();
                }
                seen = requests;
            }
        }
    }
}
