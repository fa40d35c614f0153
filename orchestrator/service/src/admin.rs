//! The HTTP/1.1 server of the operators' API and metrics, shared by control plane, data planes and workers.
//!
//! It bounds the number and the idle time of connections, reserves permits for health checks and metrics, and refuses
//! requests that a browser sends on behalf of a foreign web page.

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
    accept::AcceptFailures,
    problem::{convert_errors, problem},
};

/// Connections beyond the configured bound, for health checks and metrics only: a component whose operators' port is
/// full is alive, and must not be reported as dead.
const RESERVED_CONNECTIONS: usize = 64;
/// Maximum time until the head of a request is complete, for the first request of a connection and each further one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for a connection with a reserved permit, of which there are few.
const RESERVED_HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection on which no byte is transferred for this long is closed. Longer than the processing of a bulk
/// registration.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection on which no request begins for this long is closed even if bytes are transferred, so that a body sent
/// or a response read byte by byte does not hold a permit for ever. Twice the maximum time of a bulk registration,
/// including its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
/// Paths that may use a reserved permit, and that are served under any host name.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// A server of routes for operators, with its access rules and bounds.
pub struct AdminServer {
    /// The routes.
    pub router: Router,
    /// Accepted host names with a dot. Addresses and names without a dot are always accepted.
    pub hosts: Vec<String>,
    /// Maximum number of concurrent connections; further ones serve only health checks and metrics.
    pub connections: usize,
}

/// Extension of a request whose connection has a reserved permit.
#[derive(Clone, Copy)]
struct Reserved;

impl AdminServer {
    /// Serves `listener` until `shutdown`; connections then complete their current request.
    pub async fn serve(self, listener: Box<dyn Listener>, shutdown: CancellationToken) {
        let router = self.router.layer(middleware::from_fn(convert_errors));
        let router = router.layer(middleware::from_fn_with_state(Arc::<[String]>::from(self.hosts), check_request));
        let ordinary = Arc::new(Semaphore::new(self.connections));
        let reserved = Arc::new(Semaphore::new(RESERVED_CONNECTIONS));
        let connections = TaskTracker::new();
        let mut failures = AcceptFailures::new("the operators' port");
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failures.log_and_back_off(&error).await;
                    continue;
                }
            };
            let permit = match Arc::clone(&ordinary).try_acquire_owned() {
                Ok(permit) => Permit { _permit: permit, is_reserved: false },
                Err(_) => match Arc::clone(&reserved).try_acquire_owned() {
                    Ok(permit) => Permit { _permit: permit, is_reserved: true },
                    // Dropping the connection closes it.
                    Err(_) => continue,
                },
            };
            connections.spawn(serve_connection(accepted, permit, router.clone(), shutdown.clone()));
        }
        connections.close();
        connections.wait().await;
    }
}

/// Permit of one connection, released when dropped.
struct Permit {
    _permit: OwnedSemaphorePermit,
    is_reserved: bool,
}

async fn serve_connection(accepted: Accepted, permit: Permit, router: Router, shutdown: CancellationToken) {
    let is_reserved = permit.is_reserved;
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
    // Errors of a connection concern only its client, and are not logged.
    tokio::select! {
        biased;
        ended = connection.as_mut() => drop(ended),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
    drop(permit);
}

/// Middleware that refuses requests of foreign web pages, and on reserved permits all but health checks and metrics.
async fn check_request(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
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

/// Returns an error if a request may come from a foreign web page (cross-site request forgery, DNS rebinding). Such a
/// page can make a browser call any address, but the browser then names the page's origin, or the page's domain as the
/// host.
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

/// Returns true if `host` is an address, a name without a dot, or a configured name. Names without a dot are safe
/// because they cannot be registered in the public DNS.
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

/// A connection that fails if no byte is transferred for [`IDLE_TIMEOUT`], or if no request begins for
/// [`REQUEST_TIMEOUT`].
struct TimedIo {
    io: Io,
    idle_timer: Pin<Box<Sleep>>,
    /// Number of requests that have begun.
    requests: Arc<AtomicU64>,
    /// That number when `request_timer` was last reset.
    seen: u64,
    request_timer: Pin<Box<Sleep>>,
}

impl TimedIo {
    fn new(io: Io, requests: Arc<AtomicU64>) -> Self {
        let [idle_timer, request_timer] = [IDLE_TIMEOUT, REQUEST_TIMEOUT].map(|time| Box::pin(sleep(time)));
        Self { io, idle_timer, requests, seen: 0, request_timer }
    }

    /// Passes on the result of reading or writing, unless a time-out has passed.
    fn check_timers<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let requests = self.requests.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.seen, requests) != requests {
            self.request_timer.as_mut().reset(Instant::now() + REQUEST_TIMEOUT);
        }
        if self.request_timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if result.is_ready() {
            self.idle_timer.as_mut().reset(Instant::now() + IDLE_TIMEOUT);
            return result;
        }
        ready!(self.idle_timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.check_timers(cx, result)
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check_timers(cx, result)
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
        let server = AdminServer { router, hosts: vec!["ops.example".to_owned()], connections };
        (address, shutdown.clone(), tokio::spawn(server.serve(listener, shutdown)))
    }

    async fn get_page(address: std::net::SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        timeout(WAIT_TIMEOUT, stream.read_to_string(&mut response)).await.unwrap().unwrap();
        response
    }

    #[tokio::test]
    async fn a_foreign_host_or_origin_is_refused_except_for_health_checks() {
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
            let response = get_page(address, "/v1/x", &headers).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {expected} ")), "{headers}{response}");
        }
        assert!(get_page(address, "/healthz", "Host: evil.example\r\n").await.contains(" 200 "));
        shutdown.cancel();
        timeout(WAIT_TIMEOUT, ended).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn health_checks_are_served_when_all_connections_are_in_use() {
        let (address, shutdown, ended) = start(2).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Half a request head, so that this connection is certainly accepted before the next one.
            stream.write_all(b"GET /v1/x HTTP/1.1\r\n").await.unwrap();
            silent.push(stream);
        }
        let refused = get_page(address, "/v1/x", "Host: localhost\r\n").await;
        assert!(refused.contains(" 503 ") && refused.contains("retry-after"), "{refused}");
        assert!(get_page(address, "/healthz", "Host: localhost\r\n").await.contains(" 200 "));
        drop(silent);
        shutdown.cancel();
        timeout(WAIT_TIMEOUT, ended).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_complete_request_is_closed() {
        let (address, _shutdown, _ended) = start(2).await;
        for sent in ["", "GET /v1/x HTT", "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            // Time is virtual: it advances as soon as all tasks wait.
            timeout(HEADER_TIMEOUT * 2, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed() {
        let (mut far, near) = tokio::io::duplex(16);
        let mut timed = TimedIo::new(Box::new(near), Arc::default());
        far.write_all(b"x").await.unwrap();
        assert_eq!(timed.read_u8().await.unwrap(), b'x');
        let began = Instant::now();
        assert_eq!(timed.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), IDLE_TIMEOUT);
        let mut timed = TimedIo::new(timed.io, Arc::default());
        let written = timed.write_all(&[0; 64]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut, "the peer does not read");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_does_not_extend_the_request_timeout() {
        let (mut far, near) = tokio::io::duplex(1024);
        let router = Router::new().route("/v1/x", get(|| async { "x\n" }).post(|body: String| async { body }));
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let permit = Permit { _permit: permit, is_reserved: false };
        let accepted = Accepted { io: Box::new(near), local: ANY_LOOPBACK, peer: ANY_LOOPBACK };
        let served = tokio::spawn(serve_connection(accepted, permit, router, CancellationToken::new()));
        // Each request on a connection has the full time.
        let (mut began, mut response) = (Instant::now(), [0; 1024]);
        while began.elapsed() < REQUEST_TIMEOUT * 2 {
            far.write_all(b"GET /v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            assert!(far.read(&mut response).await.unwrap() > 0, "still served after {:?}", began.elapsed());
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
