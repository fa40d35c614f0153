//! Operators' pages over HTTP/1.1: one server for the control plane, the data planes and the workers.
//!
//! What such a port needs besides its pages is here: connections have places and time-outs, health and metrics have
//! places of their own, and what a browser sends on behalf of somebody else's page is refused.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    Accepted, Io, Listener,
    accept::Failures,
    problem::{explain, problem},
};

/// Connections beyond the ordinary places, for health checks and metrics only: a cluster whose operators' port is full is
/// not dead, and must not look so.
const RESERVED_CONNECTIONS: usize = 64;
/// A connection brings a whole request head within this time, the first one and each further one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same on a reserved place, which others wait for.
const RESERVED_HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection on which no byte moves for this long is closed. Longer than a bulk registration takes to answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection on which no request begins for this long is closed, also if bytes move: a body that comes byte by byte, or an
/// answer that is taken so, holds its place no longer. Twice what a bulk registration may take, and its body before it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// Pages that may use a reserved place, and that may be asked for by any name.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Pages, and who may ask for them.
pub struct Pages {
    /// What is served.
    pub router: Router,
    /// Host names with a dot by which this port may be called; addresses and names without a dot always may.
    pub hosts: Vec<String>,
    /// Connections served at once; beyond them only health checks and metrics are answered.
    pub connections: usize,
}

/// In a request's extensions: it came on a reserved place.
#[derive(Clone, Copy)]
struct Reserved;

impl Pages {
    /// Serves `listener` until `shutdown`; connections then finish the request they are in.
    pub async fn serve(self, listener: Box<dyn Listener>, shutdown: CancellationToken) {
        let router = self.router.layer(middleware::from_fn(explain));
        let router = router.layer(middleware::from_fn_with_state(Arc::<[String]>::from(self.hosts), guard));
        let ordinary = Arc::new(Semaphore::new(self.connections));
        let reserved = Arc::new(Semaphore::new(RESERVED_CONNECTIONS));
        let connections = TaskTracker::new();
        let mut failures = Failures::of("the operators' port");
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failures.note(&error).await;
                    continue;
                }
            };
            let place = match Arc::clone(&ordinary).try_acquire_owned() {
                Ok(place) => Place { _permit: place, is_reserved: false },
                Err(_) => match Arc::clone(&reserved).try_acquire_owned() {
                    Ok(place) => Place { _permit: place, is_reserved: true },
                    // Dropping the connection closes it.
                    Err(_) => continue,
                },
            };
            connections.spawn(serve_connection(accepted, place, router.clone(), shutdown.clone()));
        }
        connections.close();
        connections.wait().await;
    }
}

/// A connection's place, free again when it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    is_reserved: bool,
}

async fn serve_connection(accepted: Accepted, place: Place, router: Router, shutdown: CancellationToken) {
    let is_reserved = place.is_reserved;
    let requests = Arc::<AtomicU64>::default();
    let io = TimedIo::new(accepted.io, requests.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        requests.fetch_add(1, Ordering::Relaxed);
        if is_reserved {
            request.extensions_mut().insert(Reserved);
        }
        router.clone().oneshot(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    builder.header_read_timeout(if is_reserved { RESERVED_HEADER_TIMEOUT } else { HEADER_TIMEOUT });
    builder.keep_alive(!is_reserved);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    // A broken connection is its client's affair.
    tokio::select! {
        biased;
        ended = connection.as_mut() => drop(ended),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
    drop(place);
}

/// Refuses what a browser sends for somebody else's page, and what a reserved place is not for.
async fn guard(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let is_probe = PROBES.contains(&request.uri().path());
    if is_probe {
        return next.run(request).await;
    }
    if request.extensions().get::<Reserved>().is_some() {
        let detail = "all connections are in use: only health checks and metrics are answered";
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        return response;
    }
    match check_origin(request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(detail) => problem(StatusCode::FORBIDDEN, &detail),
    }
}

/// Whether a request comes from a program that means this port: a page in a browser can be made to call any address, but
/// then it names its own origin, or its own domain as the host.
fn check_origin(headers: &HeaderMap, hosts: &[String]) -> Result<(), String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if !is_own_host(host, hosts) {
        return Err(format!("this port is not called {host:?}: use an address, or name the host in `hosts`"));
    }
    match text(header::ORIGIN) {
        Some(origin) if !origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host)) => {
            Err(format!("pages of {origin:?} may not call this port"))
        }
        _ => Ok(()),
    }
}

/// An address, a name without a dot (nobody outside can give one to their own server), or a configured name.
fn is_own_host(host: &str, hosts: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let is_plain = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    is_plain || hosts.iter().any(|known| known.eq_ignore_ascii_case(bare))
}

/// A connection that breaks when no byte moves on it for [`IDLE_TIMEOUT`], and when no request begins on it for
/// [`REQUEST_TIMEOUT`].
struct TimedIo {
    io: Io,
    idle: Pin<Box<Sleep>>,
    /// Requests that have begun.
    requests: Arc<AtomicU64>,
    /// Those when `request` was set.
    seen: u64,
    request: Pin<Box<Sleep>>,
}

impl TimedIo {
    fn new(io: Io, requests: Arc<AtomicU64>) -> Self {
        let [idle, request] = [IDLE_TIMEOUT, REQUEST_TIMEOUT].map(|time| Box::pin(sleep(time)));
        Self { io, idle, requests, seen: 0, request }
    }

    /// Passes on what came about. As long as nothing does, or no further request begins, a time-out runs.
    fn watch<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let requests = self.requests.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.seen, requests) != requests {
            self.request.as_mut().reset(Instant::now() + REQUEST_TIMEOUT);
        }
        if self.request.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
            return moved;
        }
        ready!(self.idle.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.watch(cx, moved)
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
        time::timeout,
    };

    use super::*;
    use crate::{ANY_LOOPBACK, Network, OsNetwork};

    /// Longer than any time-out of this file.
    const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

    async fn start(connections: usize) -> (std::net::SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = OsNetwork.bind(ANY_LOOPBACK).await.unwrap();
        let address = listener.local_address().unwrap();
        let router = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/v1/x", get(|| async { "x\n" }));
        let shutdown = CancellationToken::new();
        let pages = Pages { router, hosts: vec!["ops.example".to_owned()], connections };
        (address, shutdown.clone(), tokio::spawn(pages.serve(listener, shutdown)))
    }

    async fn ask(address: std::net::SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(WAIT_TIMEOUT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn a_foreign_host_or_origin_is_refused_and_health_is_answered_to_all() {
        let (address, shutdown, ended) = start(8).await;
        for (headers, expected) in [
            (format!("Host: {address}\r\n"), "200"),
            ("Host: localhost:1\r\n".to_owned(), "200"),
            ("Host: [::1]:1\r\n".to_owned(), "200"),
            ("Host: control-plane\r\n".to_owned(), "200"),
            ("Host: OPS.example:80\r\n".to_owned(), "200"),
            (format!("Host: {address}\r\nOrigin: http://{address}\r\n"), "200"),
            ("Host: evil.example\r\n".to_owned(), "403"),
            ("Host: 127.0.0.1.evil.example\r\n".to_owned(), "403"),
            (format!("Host: {address}\r\nOrigin: http://evil.example\r\n"), "403"),
            (format!("Host: {address}\r\nOrigin: null\r\n"), "403"),
            (format!("Host: {address}\r\nOrigin: https://{address}\r\n"), "403"),
        ] {
            let answer = ask(address, "/v1/x", &headers).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{headers}{answer}");
        }
        assert!(ask(address, "/healthz", "Host: evil.example\r\n").await.contains(" 200 "));
        shutdown.cancel();
        timeout(WAIT_TIMEOUT, ended).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn health_is_answered_when_all_connections_are_taken() {
        let (address, shutdown, ended) = start(2).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Half a head, so that it is certain that it was accepted before what follows.
            stream.write_all(b"GET /v1/x HTTP/1.1\r\n").await.unwrap();
            silent.push(stream);
        }
        let refused = ask(address, "/v1/x", "Host: localhost\r\n").await;
        assert!(refused.contains(" 503 ") && refused.contains("retry-after"), "{refused}");
        assert!(ask(address, "/healthz", "Host: localhost\r\n").await.contains(" 200 "));
        drop(silent);
        shutdown.cancel();
        timeout(WAIT_TIMEOUT, ended).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_request_is_closed() {
        let (address, _shutdown, _ended) = start(2).await;
        for sent in ["", "GET /v1/x HTT", "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            // Time is virtual: it passes as soon as everybody waits.
            timeout(HEADER_TIMEOUT * 2, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_breaks() {
        let (mut far, near) = tokio::io::duplex(16);
        let mut timed = TimedIo::new(Box::new(near), Arc::default());
        far.write_all(b"x").await.unwrap();
        assert_eq!(timed.read_u8().await.unwrap(), b'x');
        let began = Instant::now();
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), IDLE_TIMEOUT);
        let mut timed = TimedIo::new(timed.io, Arc::default());
        let written = timed.write_all(&[0; 64]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut, "nobody reads");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_byte_by_byte_holds_its_place_no_longer_than_a_request_may_take() {
        let (mut far, near) = tokio::io::duplex(1024);
        let router = Router::new().route("/v1/x", get(|| async { "x\n" }).post(|body: String| async { body }));
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let place = Place { _permit: place, is_reserved: false };
        let accepted = Accepted { io: Box::new(near), local: ANY_LOOPBACK, peer: ANY_LOOPBACK };
        let served = tokio::spawn(serve_connection(accepted, place, router, CancellationToken::new()));
        // Requests that follow each other have their time each.
        let (mut began, mut answer) = (Instant::now(), [0; 1024]);
        while began.elapsed() < REQUEST_TIMEOUT * 2 {
            far.write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            assert!(far.read(&mut answer).await.unwrap() > 0, "still served after {:?}", began.elapsed());
            sleep(HEADER_TIMEOUT / 2).await;
        }
        began = Instant::now();
        far.write_all(b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n").await.unwrap();
        let drip = async {
            while far.write_all(b"x").await.is_ok() {
                sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
            }
        };
        timeout(REQUEST_TIMEOUT * 2, drip).await.expect("it is closed");
        served.await.unwrap();
        assert!(began.elapsed() >= REQUEST_TIMEOUT, "after {:?}", began.elapsed());
    }
}
