//! A server for tests that behaves as the name of the invoked function says, over HTTP/1.1 and h2c, on a free port.
#![allow(dead_code, reason = "each test crate uses its part of it")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, runtime};

/// The number of requests for each `METHOD name`.
pub(crate) type Seen = Arc<Mutex<BTreeMap<String, u64>>>;

/// A running server; it ends with the test.
pub(crate) struct Mock {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// The requests it received.
    pub(crate) seen: Seen,
    /// Connections it accepted.
    pub(crate) accepted: Arc<Mutex<u64>>,
}

impl Mock {
    /// A data plane: `POST /` with the name in the `function` header.
    pub(crate) fn data_plane() -> Self {
        Self::start(|request, _| Box::pin(invoked(request)))
    }

    /// Knative's activator: `POST /` with the two headers of an ingress; the function answers, from a pod called `pod-`
    /// and its own name, and the system says nothing. One that begins with `claims` says what a data plane would.
    pub(crate) fn activator() -> Self {
        Self::start(|request, _| {
            let header =
                |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
            let (function, authority) = (header("function"), request.uri().authority().map(ToString::to_string));
            let host = authority.unwrap_or_else(|| header("host"));
            let revision = (header("knative-serving-namespace"), header("knative-serving-revision"));
            let named = revision == ("default".to_owned(), format!("{function}-00001"))
                && host == format!("{function}.default.svc.cluster.local");
            let response = match function.split('-').next() {
                _ if !named => response(404, format!("no revision {revision:?} of {host:?}")),
                Some("broken") => response(502, "no JSON".to_owned()),
                kind => {
                    let report = r#"{"Status":"OK","Function":"NAME","MachineName":"pod-NAME","ExecutionTime":1}"#;
                    let response = response(200, report.replace("NAME", &function));
                    if kind == Some("claims") { with_data_plane_headers(response) } else { response }
                }
            };
            Box::pin(std::future::ready(Ok(response)))
        })
    }

    /// The published system, control plane and data plane in one: `POST /registerService` with a form, and invocations that
    /// its function answers as strictly as the published one. Each registration counts as `POST registerService`.
    pub(crate) fn published() -> Self {
        Self::start(|request, _| Box::pin(published(request)))
    }

    /// A server of no function: `GET /run/NAME?at=HOST` answers with text, where HOST is the Host header too.
    pub(crate) fn external() -> Self {
        Self::start(|request, _| {
            let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
            let host = request.uri().authority().map_or(header("host"), |authority| authority.as_str());
            let expected = format!("/run/{}?at={host}", header("function"));
            let found = request.uri().path_and_query().map_or("", |path| path.as_str());
            let is_expected = request.method() == Method::GET && found == expected && header("x-key") == "k";
            let answered = if is_expected { response(200, "done".to_owned()) } else { response(400, String::new()) };
            Box::pin(std::future::ready(Ok(answered)))
        })
    }

    /// A control plane: `PUT` and `DELETE` of `/v1/functions/NAME`; a name that begins with `old` exists already,
    /// one that begins with `guarded` needs the token `secret`, and one with `picky` is refused for its concurrency. Data
    /// planes acknowledge one that begins with `third` by its third registration, and one with `never` not at all.
    pub(crate) fn control_plane() -> Self {
        Self::start(|request, seen| {
            let name = request.uri().path().rsplit('/').next().unwrap_or("").to_owned();
            let is_authorized = request.headers().get("authorization").is_some_and(|shown| shown == "Bearer secret");
            let status = match *request.method() {
                _ if name.starts_with("guarded") && !is_authorized => 401,
                Method::PUT if name.starts_with("old") => 200,
                Method::PUT if name.starts_with("third") || name.starts_with("never") => {
                    let times = seen.lock().unwrap().get(&format!("PUT {name}")).copied().unwrap_or(0);
                    let is_known = name.starts_with("third") && times > 2;
                    let known = if is_known { "" } else { r#","known":false"# };
                    let status = if times > 1 { 200 } else { 201 };
                    return Box::pin(std::future::ready(Ok(response(status, format!("{{\"result\":\"\"{known}}}")))));
                }
                Method::PUT if name.starts_with("bad") => 400,
                Method::PUT if name.starts_with("picky") => return Box::pin(at_the_concurrency(request)),
                Method::PUT => 201,
                Method::DELETE => 202,
                _ => 405,
            };
            Box::pin(std::future::ready(Ok(response(status, "{}".to_owned()))))
        })
    }

    /// The number of requests of one kind.
    pub(crate) fn count(&self, what: &str) -> u64 {
        self.seen.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// The number of all requests.
    pub(crate) fn total(&self) -> u64 {
        self.seen.lock().unwrap().values().sum()
    }

    fn start(handle: fn(Request<Incoming>, Seen) -> MockFuture) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, accepted) = (Seen::default(), Arc::new(Mutex::new(0)));
        let mock = Self { address, seen: Arc::clone(&seen), accepted: Arc::clone(&accepted) };
        thread::spawn(move || {
            runtime.block_on(async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    *accepted.lock().unwrap() += 1;
                    let seen = Arc::clone(&seen);
                    let service = service_fn(move |request: Request<Incoming>| {
                        let named = request.headers().get("function").and_then(|name| name.to_str().ok());
                        let name = named.unwrap_or_else(|| request.uri().path().rsplit('/').next().unwrap_or(""));
                        // A diagnosis after a failure is no invocation and no registration.
                        if request.method() != Method::GET || request.headers().contains_key("function") {
                            *seen.lock().unwrap().entry(format!("{} {name}", request.method())).or_default() += 1;
                        }
                        handle(request, Arc::clone(&seen))
                    });
                    tokio::spawn(async move {
                        let _ = auto::Builder::new(TokioExecutor::new())
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            });
        });
        mock
    }
}

type MockFuture = std::pin::Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, &'static str>> + Send>>;

/// A refusal in the form of Dirigent's control plane: the position is within the body that was sent.
async fn at_the_concurrency(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let before = body.windows(13).position(|bytes| bytes == b"\"concurrency\"").expect("a concurrency");
    let line = body[..before].iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = body[..before].iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    let problem = format!(
        r#"{{"type":"urn:dirigent:problem:invalid-field","status":400,"title":"Bad Request",
            "detail":"concurrency: expected 1 to 10000, got 0","field":"concurrency","line":{line},"column":{column}}}"#
    );
    Ok(with(response(400, problem), "content-type", "application/problem+json"))
}

async fn published(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let (function, host) = (header("function"), header("host"));
    let host = request.uri().authority().map_or(host, ToString::to_string);
    let is_whole = |name: &str| header(name).parse::<u32>().is_ok();
    if request.uri().path() == "/registerService" {
        let form = request.into_body().collect().await.expect("a body").to_bytes();
        let form = String::from_utf8_lossy(&form).into_owned();
        let has = |field: &str| form.split('&').any(|found| found == field);
        let is_complete = has("port_forwarding=80") && has("port_forwarding=tcp") && form.contains("dirigent_trace");
        let status = if is_complete && form.starts_with("name=f-") { 200 } else { 400 };
        return Ok(response(status, "127.0.0.1:8080".to_owned()));
    }
    if host != function || !is_whole("requested_cpu") || !is_whole("requested_memory") || !is_whole("multiplier") {
        return Ok(response(400, String::new()));
    }
    let report = format!(r#"{{"Status":"OK","Function":"{function}","MachineName":"c-{function}","ExecutionTime":1}}"#);
    Ok(response(200, report))
}

async fn invoked(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, &'static str> {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let (function, host) = (header("function"), header("host"));
    let host =
        if host.is_empty() { request.uri().authority().map(ToString::to_string).unwrap_or_default() } else { host };
    if request.method() == Method::GET {
        return Ok(response(404, String::new()));
    }
    assert_eq!(host, function, "Host must name the function");
    assert_eq!((request.method(), request.uri().path()), (&Method::POST, "/"));
    assert!(header("requested_cpu").parse::<f64>().is_ok() && header("requested_memory").parse::<u32>().is_ok());
    let report = |name: &str| format!(r#"{{"Status":"OK","Function":"{name}","MachineName":"m","ExecutionTime":3}}"#);
    let kind = function.split('-').next().unwrap_or("");
    Ok(match kind {
        "garbage" => response(200, "hello".to_owned()),
        "other" => response(200, report("somebody-else")),
        "refused" => with(response(503, String::new()), "x-dirigent-error", "queue-full"),
        "late" => with(response(504, String::new()), "x-dirigent-error", "queue-deadline"),
        "broken" => response(502, String::new()),
        "unknown" => response(404, String::new()),
        "unregistered" => with(response(404, String::new()), "x-dirigent-error", "unknown-function"),
        "reset" => return Err("closed without a response"),
        "slow" => std::future::pending().await,
        // Thirty years.
        "absurd" => response(200, report(&function).replace(":3}", ":1e15}")),
        // 2^63 microseconds.
        "overflow" => response(200, report(&function).replace(":3}", ":9223372036854775808}")),
        // More than HTTP libraries take by themselves, and as much as a data plane passes on.
        "wordy" => with(with_data_plane_headers(response(200, report(&function))), "x-more", &"x".repeat(63 * 1024)),
        _ => with_data_plane_headers(response(200, report(&function))),
    })
}

/// A response with what a data plane says of it.
fn with_data_plane_headers(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    // Less than any way through a socket takes, or nobody could believe the row.
    let timing = "queue;dur=0.002, cold;dur=0.004, exec;dur=0.005";
    let response = with(response, "server-timing", timing);
    let response = with(with(response, "x-dirigent-cold", "1"), "x-dirigent-sandbox", "3-17");
    with(response, "x-dirigent-attempts", "2")
}

fn response(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}

fn with(mut response: Response<Full<Bytes>>, name: &'static str, value: &str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}
