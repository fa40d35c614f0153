//! A sandbox that behaves as the request's path says, and counts what runs in it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use service::{ANY_LOOPBACK, Listener, Network, OsNetwork};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::world::until;

/// Length of a body that exceeds all buffers on the way.
pub(crate) const HUGE_BYTES: usize = 32 * 1024 * 1024;

type Body = BoxBody<Bytes, std::io::Error>;

/// A running sandbox.
pub(crate) struct Sandbox {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    server: JoinHandle<()>,
    connections: CancellationToken,
}

/// Counters that a test reads.
pub(crate) struct State {
    /// Running invocations; a test waits for changes.
    running: watch::Sender<usize>,
    /// Greatest number that ran at once.
    pub(crate) max_running: AtomicUsize,
    /// All invocations so far.
    pub(crate) served: AtomicUsize,
    /// Open connections; a test waits for changes.
    pub(crate) open: watch::Sender<usize>,
    /// Cancelled to close the connections.
    let_go: Notify,
    /// Accepted connections.
    pub(crate) connections: AtomicUsize,
    /// Invocations of `/hold` so far.
    pub(crate) holds: AtomicUsize,
    /// Releases one invocation of `/hold` per permit.
    pub(crate) gate: Semaphore,
}

struct RunningGuard(Arc<State>);

impl Sandbox {
    pub(crate) async fn start() -> Self {
        Self::on(OsNetwork.bind(ANY_LOOPBACK).await.unwrap())
    }

    /// Listens at the address of a sandbox that has ended.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let mut listener = None;
        until("the address is free", async || {
            listener = OsNetwork.bind(address).await.ok();
            listener.is_some()
        })
        .await;
        Self::on(listener.unwrap())
    }

    fn on(listener: Box<dyn Listener>) -> Self {
        let address = listener.local_address().unwrap();
        let state = Arc::new(State {
            running: watch::Sender::new(0),
            max_running: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            open: watch::Sender::new(0),
            let_go: Notify::new(),
            connections: AtomicUsize::new(0),
            holds: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        });
        let (served, connections) = (state.clone(), CancellationToken::new());
        let ended = connections.clone();
        let server = tokio::spawn(async move {
            loop {
                let accepted = listener.accept().await.unwrap();
                served.connections.fetch_add(1, Ordering::SeqCst);
                served.open.send_modify(|open| *open += 1);
                let (state, ended) = (served.clone(), ended.clone());
                tokio::spawn(async move {
                    let open = state.clone();
                    let let_go = open.let_go.notified();
                    let service = service_fn(move |request| invoke(state.clone(), request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let connection = builder.serve_connection(TokioIo::new(accepted.io), service);
                    tokio::select! {
                        _ = connection => {}
                        () = ended.cancelled() => {}
                        () = let_go => {}
                    }
                    open.open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, state, server, connections }
    }

    /// Crashes: its connections break, further ones are refused.
    pub(crate) fn kill(&self) {
        self.stop_listening();
        self.connections.cancel();
    }

    /// Accepts no further connections; the open ones stay.
    pub(crate) fn stop_listening(&self) {
        self.server.abort();
    }

    /// Closes its connections like a server after its keep-alive time, and accepts further ones.
    pub(crate) async fn end_connections(&self) {
        self.state.let_go.notify_waiters();
        let mut open = self.state.open.subscribe();
        let ended = tokio::time::timeout(sim::WAIT_TIMEOUT, open.wait_for(|open| *open == 0)).await;
        ended.expect("the connections of the sandbox should end").unwrap();
    }

    /// Waits until `count` invocations run in it.
    pub(crate) async fn running(&self, count: usize) {
        let mut running = self.state.running.subscribe();
        let reached = running.wait_for(|running| *running == count);
        let waited = tokio::time::timeout(sim::WAIT_TIMEOUT, reached).await;
        waited.unwrap_or_else(|_| panic!("{count} invocations should run in the sandbox")).unwrap();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

async fn invoke(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    state.served.fetch_add(1, Ordering::SeqCst);
    state.running.send_modify(|running| *running += 1);
    let guard = RunningGuard(state.clone());
    state.max_running.fetch_max(*state.running.borrow(), Ordering::SeqCst);
    let broken = || std::io::Error::other("broken on purpose");
    match request.uri().path() {
        "/hold" => {
            state.holds.fetch_add(1, Ordering::SeqCst);
            state.gate.acquire().await.unwrap().forget();
            Ok(text("held"))
        }
        "/slow" => {
            let work = std::time::Duration::from_millis(2);
            tokio::time::interval_at(tokio::time::Instant::now() + work, work).tick().await;
            Ok(text("slow"))
        }
        "/echo" => Ok(Response::new(keeping(request.into_body().map_err(std::io::Error::other).boxed(), guard))),
        "/count" => count(request).await,
        "/die" => Err(broken()),
        // Reads the request to its end and crashes, but only the first time.
        "/die-once" if state.served.load(Ordering::SeqCst) == 1 => {
            request.into_body().collect().await.map_err(std::io::Error::other)?;
            Err(broken())
        }
        "/half" => {
            let frames = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"half"))), Err(broken())]);
            let body = BodyExt::boxed(StreamBody::new(futures::StreamExt::then(frames, async |frame| {
                // Flush the first part before the end.
                tokio::task::yield_now().await;
                frame
            })));
            let mut response = Response::new(body);
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("100"));
            Ok(response)
        }
        "/drip" => {
            let gate = state.clone();
            let frames = futures::stream::unfold(0u8, move |count| {
                let gate = gate.clone();
                async move {
                    if count > 0 {
                        gate.gate.acquire().await.unwrap().forget();
                    }
                    Some((Ok(Frame::data(Bytes::from_static(b"drop\n"))), count.saturating_add(1)))
                }
            });
            Ok(Response::new(keeping(BodyExt::boxed(StreamBody::new(frames)), guard)))
        }
        "/flood" => {
            let frames = futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b'x'; 16_384]))));
            Ok(Response::new(keeping(BodyExt::boxed(StreamBody::new(frames)), guard)))
        }
        "/huge" => Ok(huge()),
        "/trailers" => Ok(trailers()),
        "/request" => Ok(mirror(&request)),
        "/fields" => Ok(fields()),
        "/mebibyte" => Ok(text(&"x".repeat(1 << 20))),
        "/large" => Ok(text(&"x".repeat(64 * 1024))),
        _ if request.method() == Method::HEAD => {
            let mut response = Response::new(Full::default().map_err(|never: Infallible| match never {}).boxed());
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("1234"));
            Ok(response)
        }
        _ => Ok(text("ok")),
    }
}

/// A body that exceeds the buffers of any connection, after which the connection closes.
fn huge() -> Response<Body> {
    let body = Full::from(vec![b'x'; HUGE_BYTES]).map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The length of the request's body, once it was received.
async fn count(request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    Ok(text(&body.len().to_string()))
}

/// The request as text, with response fields of all kinds.
fn mirror(request: &Request<Incoming>) -> Response<Body> {
    let mut lines = vec![format!("{} {} {:?}", request.method(), request.uri(), request.version())];
    lines.extend(request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
    let mut response = text(&lines.join("\n"));
    for (name, value) in
        [("connection", "x-private"), ("x-private", "1"), ("x-dirigent-error", "forged"), ("x-own", "kept")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A body of unknown length with a trailer section: HTTP/1.1 sends it in chunks, which trailers need.
fn trailers() -> Response<Body> {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(futures::stream::iter(frames))));
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-sum"));
    response
}

/// A large header section without a body.
fn fields() -> Response<Body> {
    let mut response = text("");
    for name in ["x-a", "x-b", "x-c", "x-d", "x-e", "x-f", "x-g", "x-h", "x-i", "x-j"] {
        response.headers_mut().insert(name, HeaderValue::from_str(&"x".repeat(6000)).unwrap());
    }
    response
}

/// A body that counts as running until it is dropped.
fn keeping(body: Body, guard: RunningGuard) -> Body {
    body.map_frame(move |frame| {
        let _running = &guard;
        frame
    })
    .boxed()
}

fn text(text: &str) -> Response<Body> {
    Response::new(Full::from(text.to_owned()).map_err(|never: Infallible| match never {}).boxed())
}
