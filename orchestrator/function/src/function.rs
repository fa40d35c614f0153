//! The function itself: serves connections, runs the work of each request and responses.

use std::{
    convert::Infallible,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Work, Workload,
    memory::Touched,
    response::{FunctionResponse, Signature},
    spin::{Spinner, thread_cpu_ns},
};

/// Largest request body read; it is thrown away, so the bound only stops a runaway client.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// Read buffer of an HTTP/1.1 connection: the least that hyper allows, as requests are headers only.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// The way in which a function spends the time that a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Uses the CPU, measured by the thread's CPU clock.
    #[default]
    Spin,
    /// Waits: represents work done elsewhere, so that a large trace fits a small machine.
    Sleep,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "spin" => Ok(Self::Spin),
            "sleep" => Ok(Self::Sleep),
            _ => Err(format!("{text:?} is no mode: expected spin or sleep")),
        }
    }
}

/// Configuration of a function.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// The way it spends its time.
    pub mode: Mode,
    /// Name of the machine in its responses.
    pub machine_name: String,
    /// Most memory that one request may have touched, in MiB; more is cut to it. 0 touches none.
    pub max_memory_mib: u32,
}

/// A function that serves any number of connections at once.
#[derive(Debug)]
pub struct Function {
    mode: Mode,
    max_memory_mib: u32,
    answers_probes: bool,
    /// Invocations under way, of a pod only: others must not pay for a count that nobody reads.
    running: AtomicU32,
    /// Invocations that came, of a pod only; it wraps around.
    begun: AtomicU32,
    signature: Signature,
    spinner: Arc<Spinner>,
    server: auto::Builder<TokioExecutor>,
}

/// The header of a probe of Knative's activator, and the value that a queue-proxy responds with, also as its body.
const PROBE: (&str, &str) = ("k-network-probe", "queue");

/// The reason why the work of a request stopped.
enum Broken {
    /// The requested memory is not available.
    Memory(String),
    /// The CPU clock cannot be read, or the thread is gone.
    Cpu(String),
}

impl Function {
    /// A function that waits for connections.
    #[must_use]
    pub fn new(config: FunctionConfig) -> Arc<Self> {
        let mut server = auto::Builder::new(TokioExecutor::new());
        // Without a date responses depend on nothing but the request, and cost less.
        server.http1().max_buf_size(READ_BUFFER_BYTES).auto_date_header(false);
        server.http2().auto_date_header(false);
        Arc::new(Self {
            mode: config.mode,
            max_memory_mib: config.max_memory_mib,
            answers_probes: false,
            running: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            signature: Signature::new(&config.machine_name),
            spinner: Arc::new(Spinner::new()),
            server,
        })
    }

    /// The same function as a Kubernetes pod called `name`: it also responds to the probes of Knative's activator, as
    /// the queue-proxy next to a real function does.
    #[must_use]
    pub fn as_pod(&self, name: &str) -> Arc<Self> {
        Arc::new(Self {
            mode: self.mode,
            max_memory_mib: self.max_memory_mib,
            answers_probes: true,
            running: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            signature: Signature::new(name),
            spinner: Arc::clone(&self.spinner),
            server: self.server.clone(),
        })
    }

    /// Invocations that a pod is running: it may drain before it ends. Of a function that is no pod nothing is counted.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Acquire)
    }

    /// Invocations that have come to a pod; it wraps around. Of a function that is no pod nothing is counted.
    #[must_use]
    pub fn begun(&self) -> u32 {
        self.begun.load(Ordering::Acquire)
    }

    /// Serves one connection, HTTP/1.1 or h2c with prior knowledge, until the client closes it or `shutdown` breaks
    /// it off together with what runs on it.
    pub async fn serve_connection<I>(self: Arc<Self>, io: I, shutdown: CancellationToken)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let function = Arc::clone(&self);
            async move { Ok::<_, Infallible>(function.respond(request).await) }
        });
        let connection = self.server.serve_connection(TokioIo::new(io), service);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            // A broken connection concerns only its client, who sees it.
            _ = connection => {}
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> FunctionResponse {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let name = head.headers.get("function").map_or(&b""[..], |value| value.as_bytes());
        if self.answers_probes
            && let Some(value) = head.headers.get(PROBE.0)
        {
            return probed(value.as_bytes());
        }
        let _running = self.answers_probes.then(|| {
            self.begun.fetch_add(1, Ordering::AcqRel);
            Running::enter(&self.running)
        });
        let response = |code, status: &str| self.signature.response(code, status, name, start.elapsed());
        // Read to its end, so that the client can use the connection again.
        if !body.is_end_stream() && Limited::new(body, MAX_BODY_BYTES).collect().await.is_err() {
            return response(StatusCode::PAYLOAD_TOO_LARGE, "the request body is broken or larger than 64 MiB");
        }
        let work = match Work::from_headers(&head.headers) {
            Ok(work) => work,
            Err(bad) => return response(StatusCode::BAD_REQUEST, &bad.to_string()),
        };
        match (work.workload, self.perform(work).await) {
            (Workload::Empty, Ok(())) => response(StatusCode::OK, "OK - EMPTY"),
            (Workload::Trace, Ok(())) => response(StatusCode::OK, "OK"),
            (_, Err(Broken::Memory(problem) | Broken::Cpu(problem))) => {
                response(StatusCode::INTERNAL_SERVER_ERROR, &problem)
            }
        }
    }

    async fn perform(&self, work: Work) -> Result<(), Broken> {
        if work.workload == Workload::Empty {
            return Ok(());
        }
        let memory_mib = work.memory_mib.min(self.max_memory_mib);
        let (computing, waiting) = match self.mode {
            Mode::Spin => {
                let waiting = work.run.mul_f64(work.waiting_share);
                (work.run.saturating_sub(waiting), waiting)
            }
            Mode::Sleep => (Duration::ZERO, work.run),
        };
        let started = Instant::now();
        let memory = if memory_mib == 0 && computing.is_zero() {
            None
        } else {
            Some(self.compute(memory_mib, computing).await?)
        };
        // In sleep mode touching the memory is part of the requested time.
        let spent = if self.mode == Mode::Sleep { started.elapsed() } else { Duration::ZERO };
        let waiting = waiting.saturating_sub(spent);
        if !waiting.is_zero() {
            sleep(waiting).await;
        }
        // Held to the end: a trace states the memory of the whole run.
        drop(memory);
        Ok(())
    }

    /// Touches memory and spins, together for `cpu` of a thread's time. Stops soon when the caller goes away.
    async fn compute(&self, memory_mib: u32, cpu: Duration) -> Result<Touched, Broken> {
        let abandoned = Abandoned::default();
        let (stop, spinner) = (Arc::clone(&abandoned.0), Arc::clone(&self.spinner));
        let work = move || {
            let start_ns = thread_cpu_ns().map_err(|e| Broken::Cpu(format!("cannot read the CPU clock: {e}")))?;
            let memory = Touched::new(memory_mib)
                .map_err(|_| Broken::Memory(format!("no {memory_mib} MiB of memory are to be had")))?;
            let spun = spinner.spin_until(start_ns, cpu, &stop);
            spun.map_err(|e| Broken::Cpu(format!("cannot read the CPU clock: {e}")))?;
            Ok(memory)
        };
        // On a thread of its own, because the runtime may have only one, which serves all connections.
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(_) => Err(Broken::Cpu("the thread that ran this request is gone".to_owned())),
        }
    }
}

/// The response of a ready queue-proxy to a probe with `value`.
fn probed(value: &[u8]) -> FunctionResponse {
    let (code, body) = match value == PROBE.1.as_bytes() {
        true => (StatusCode::OK, Bytes::from_static(PROBE.1.as_bytes())),
        false => (StatusCode::BAD_REQUEST, Bytes::from_static(b"unexpected probe header value")),
    };
    let mut response = FunctionResponse::new(Full::new(body));
    *response.status_mut() = code;
    response
}

/// Counts an invocation for as long as it runs, also when its client goes away.
struct Running<'a>(&'a AtomicU32);

impl<'a> Running<'a> {
    fn enter(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Set when it is dropped: the client has gone, so its thread stops spinning.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
