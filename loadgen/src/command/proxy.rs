//! `loadgen proxy`: copies bytes between clients and a server, a connection of its own for each client's, until it is
//! ended. It reads nothing of what it copies, so that no proxy can cost less: the floor of the machine it runs on.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use terminal::{Exit, UsageError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
};

use crate::{command::ports, http::target::resolve};

/// Arguments of `loadgen proxy`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct ProxyArgs {
    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// Address to listen on; port 0 is any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: String,
    /// File to write the address into, as JSON, once it listens
    #[arg(long, value_name = "FILE")]
    ports: Option<PathBuf>,
    /// Threads that copy
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

/// Room for the requests and responses of functions, which are a few hundred bytes; longer ones take several reads.
const BUFFER_BYTES: usize = 4096;
/// Wait after a failed accept, so that the loop does not spin.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(5);

/// Copies.
pub(crate) fn run(args: &ProxyArgs) -> anyhow::Result<Exit> {
    let to = resolve(&args.to).context("--to").map_err(UsageError::of)?;
    let listener = ports::listen(&args.listen)?;
    listener.set_nonblocking(true)?;
    ports::announce(&listener, args.ports.as_deref())?;
    let threads = usize::from(args.threads);
    let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    // Spawned, so that accepting runs on the threads that copy.
    let accepting = runtime.spawn(async move { accept(TcpListener::from_std(listener)?, to).await });
    runtime.block_on(accepting)?.context("accepting connections")?;
    Ok(Exit::Done)
}

async fn accept(listener: TcpListener, to: SocketAddr) -> io::Result<()> {
    loop {
        match listener.accept().await {
            // How a connection ends is for its two ends to notice.
            Ok((down, _)) => drop(tokio::spawn(copy(down, to))),
            Err(_) => tokio::time::sleep(ACCEPT_BACKOFF).await,
        }
    }
}

/// Copies both ways until one end closes.
async fn copy(mut down: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut up = TcpStream::connect(to).await?;
    down.set_nodelay(true)?;
    up.set_nodelay(true)?;
    let (mut request, mut response) = ([0; BUFFER_BYTES], [0; BUFFER_BYTES]);
    loop {
        tokio::select! {
            // In a fixed order: one end speaks at a time, and drawing lots costs.
            biased;
            read = down.read(&mut request) => match read? {
                0 => return Ok(()),
                count => up.write_all(&request[..count]).await?,
            },
            read = up.read(&mut response) => match read? {
                0 => return Ok(()),
                count => down.write_all(&response[..count]).await?,
            },
        }
    }
}
