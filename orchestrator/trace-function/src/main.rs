//! The program `trace-function`: serves one function on one port until a signal ends it.
//!
//! The worker starts it in a sandbox and says the port in `PORT`. Readiness is that the port takes connections.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::{ArgMatches, Parser};
use function::{Function, FunctionConfig, Mode};
use terminal::{Exit, Program, UsageError};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// Connections served at once; more wait in the kernel's queue. Well below the smallest usual limit of open files.
const MAX_CONNECTIONS: usize = 512;
/// Wait after a failed accept (no file descriptors, as a rule), so that the loop does not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(10);

/// A function for experiments: spins or sleeps for as long as each request asks.
///
/// Request headers: `workload` (`empty`, `trace`, or the name of an image that has one of these words), `function`,
/// `requested_cpu` (ms), `requested_memory` (MiB), `multiplier` (accepted; the program calibrates itself),
/// `io_percentage` (share of the time that is waited instead of computed).
#[derive(Debug, Parser)]
#[command(
    version = env!("PROGRAM_VERSION"),
    args_override_self = true,
    after_help = "Example:\n  trace-function --mode spin --port 8000 &\n  \
                  curl -H 'workload: trace' -H 'requested_cpu: 25' http://127.0.0.1:8000/"
)]
struct Arguments {
    /// Use of the requested time: `spin` uses the CPU, `sleep` waits.
    #[arg(long, default_value = "spin")]
    mode: Mode,
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port to listen on; 0 takes any free one. Without it the environment's PORT counts, else 0.
    #[arg(long)]
    port: Option<u16>,
    /// Name of the machine in the responses; the host's name when not given.
    #[arg(long)]
    name: Option<String>,
    /// Most memory that one request may have touched, in MiB; more is cut to it.
    #[arg(long, default_value_t = 1024)]
    max_memory_mib: u32,
}

impl Program for Arguments {
    fn run(self, _: &ArgMatches) -> anyhow::Result<Exit> {
        run(self).map(|()| Exit::Done)
    }
}

fn main() -> ExitCode {
    terminal::main::<Arguments>()
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let port = match arguments.port {
        Some(port) => port,
        None => port_from_environment()?,
    };
    let function = Function::new(FunctionConfig {
        mode: arguments.mode,
        machine_name: arguments.name.unwrap_or_else(host_name),
        max_memory_mib: arguments.max_memory_mib,
    });
    // One thread for the protocol; spinning happens on the blocking pool. A sandbox starts the faster for it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let result = runtime.block_on(serve(function, SocketAddr::new(arguments.address, port)));
    runtime.shutdown_background();
    result
}

fn port_from_environment() -> anyhow::Result<u16> {
    match std::env::var("PORT") {
        Ok(text) => {
            text.parse().map_err(|_| UsageError(format!("PORT is {text:?}: expected a port, 0 to 65535")).into())
        }
        Err(_) => Ok(0),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

async fn serve(function: Arc<Function>, address: SocketAddr) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        anyhow!("cannot listen on {address}: {error}; --address, --port or the variable PORT name another")
    })?;
    announce(listener.local_addr().context("cannot tell the address")?)?;
    let shutdown = CancellationToken::new();
    tokio::select! {
        biased;
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = accept(listener, function, shutdown.clone()) => {}
    }
    shutdown.cancel();
    Ok(())
}

/// Says where it listens. Nobody may be reading: that is no reason not to serve.
fn announce(address: SocketAddr) -> anyhow::Result<()> {
    terminal::print(format!("listening on {address}\n")).context("cannot write to stdout")
}

async fn accept(listener: TcpListener, function: Arc<Function>, shutdown: CancellationToken) {
    let positions = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let position = Arc::clone(&positions).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_BACK_OFF).await;
            continue;
        };
        // Without it small responses may wait for an acknowledgement; should it fail, they do.
        let _ = stream.set_nodelay(true);
        let (function, shutdown) = (Arc::clone(&function), shutdown.clone());
        tokio::spawn(async move {
            function.serve_connection(stream, shutdown).await;
            drop(position);
        });
    }
}
