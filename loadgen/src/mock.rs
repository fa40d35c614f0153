//! A server that responds as a function does, at once: the target of `selftest`, and the server behind the proxy that
//! measures a machine's floor.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, runtime};

use crate::machine::clock::thread_cpu_ns;

/// A running server; it ends with the process.
pub(crate) struct Mock {
    /// Its address, for HTTP/1.1 and h2c.
    pub(crate) address: SocketAddr,
    cpu_ns: Arc<AtomicU64>,
}

impl Mock {
    /// Starts it on a free port of loopback, on a thread of its own.
    ///
    /// # Errors
    /// If it cannot listen or the thread cannot be started.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)))?;
        let mock = Self { address: listener.local_addr()?, cpu_ns: Arc::default() };
        let cpu_ns = Arc::clone(&mock.cpu_ns);
        thread::Builder::new().name("mock".to_owned()).spawn(move || runtime.block_on(serve(listener, cpu_ns)))?;
        Ok(mock)
    }

    /// Serves on this thread from a listener, for as long as the process lives.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub(crate) fn serve_here(listener: std::net::TcpListener) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        listener.set_nonblocking(true)?;
        runtime.block_on(async {
            serve(TcpListener::from_std(listener)?, Arc::default()).await;
            Ok(())
        })
    }

    /// CPU time it has used up to its last response, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.cpu_ns.load(Ordering::Relaxed) / 1000
    }
}

/// Wait after a failed accept, so that the loop does not spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(5);

async fn serve(listener: TcpListener, cpu_ns: Arc<AtomicU64>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, as a rule; those in use are given back as invocations end.
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let cpu_ns = Arc::clone(&cpu_ns);
        let service = service_fn(move |request| {
            cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
            std::future::ready(Ok::<_, Infallible>(respond(&request)))
        });
        drop(tokio::spawn(async move {
            // How a connection ends is the client's to notice.
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }));
    }
}

fn respond(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let function = request.headers().get("function").and_then(|name| name.to_str().ok()).unwrap_or("");
    let body = format!(r#"{{"Status":"OK","Function":"{function}","MachineName":"mock","ExecutionTime":0}}"#);
    Response::new(Full::new(Bytes::from(body)))
}
