//! The hollow sandboxes of this process, by the address to which a client connects.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use function::Function;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// An address without a sandbox: there never was one, or it has ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no sandbox listens on {0}")]
pub struct NotHere(pub SocketAddr);

/// The live sandboxes. Shared by the runtime, which begins and ends them, and the listeners, which accept their
/// connections.
#[derive(Debug, Default)]
pub struct Sandboxes {
    /// Looked up by key only, so its order does not matter. Locked for one access at a time.
    live: Mutex<HashMap<SocketAddr, Live>>,
}

#[derive(Clone, Debug)]
struct Live {
    function: Arc<Function>,
    ended: CancellationToken,
}

/// The permission to serve one connection to a sandbox that was live when [`Sandboxes::connection`] was called.
#[derive(Debug)]
pub struct Connection(Live);

impl Sandboxes {
    /// Starts a sandbox on `address` that runs `function`, and ends an earlier one on that address. One `Function` can
    /// serve any number of sandboxes.
    pub fn begin(&self, address: SocketAddr, function: Arc<Function>) {
        let live = Live { function, ended: CancellationToken::new() };
        let before = self.lock().insert(address, live);
        // Without the lock, because it wakes the task of each connection.
        if let Some(before) = before {
            before.ended.cancel();
        }
    }

    /// Ends the sandbox on `address`: its connections break together with the requests on them, and new ones are
    /// refused. Returns true if there was one.
    pub fn end(&self, address: SocketAddr) -> bool {
        let ended = self.lock().remove(&address);
        if let Some(live) = &ended {
            live.ended.cancel();
        }
        ended.is_some()
    }

    /// The sandbox on `address`, for serving one connection to it.
    ///
    /// # Errors
    /// If there is none: reset the connection, so that the client knows at once.
    pub fn connection(&self, address: SocketAddr) -> Result<Connection, NotHere> {
        self.lock().get(&address).cloned().map(Connection).ok_or(NotHere(address))
    }

    /// Serves `io`, which a client opened to `local`, until the client closes it or the sandbox ends.
    ///
    /// # Errors
    /// If there is no sandbox, at once.
    pub async fn serve<I>(&self, io: I, local: SocketAddr) -> Result<(), NotHere>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.connection(local)?.serve(io).await;
        Ok(())
    }

    /// The number of live sandboxes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns true if there is no live sandbox.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every change leaves the map consistent, so a panic of another holder does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Serves `io` until the client closes it or the sandbox ends.
    pub async fn serve<I>(self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.0.function.serve_connection(io, self.0.ended).await;
    }
}

/// Ends the connections, which run in tasks of their own.
impl Drop for Sandboxes {
    fn drop(&mut self) {
        for live in self.lock().values() {
            live.ended.cancel();
        }
    }
}
