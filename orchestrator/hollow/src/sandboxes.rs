//! The hollow sandboxes that live in this process, found by the address a client connected to.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use function::Function;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// No sandbox lives at an address: it never did, or it ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no sandbox answers on {0}")]
pub struct NotHere(pub SocketAddr);

/// The live sandboxes. Shared by whoever begins and ends them and whoever accepts their connections.
#[derive(Debug, Default)]
pub struct Sandboxes {
    /// Looked up by key only, never iterated in an order that matters. Held locked for a look-up at a time.
    live: Mutex<HashMap<SocketAddr, Live>>,
}

#[derive(Clone, Debug)]
struct Live {
    function: Arc<Function>,
    ended: CancellationToken,
}

/// The right to serve one connection to a sandbox that was live when it was asked for.
#[derive(Debug)]
pub struct Connection(Live);

impl Sandboxes {
    /// From now on `function` answers on `address`. What answered there before ends. One `Function` can serve any
    /// number of sandboxes.
    pub fn begin(&self, address: SocketAddr, function: Arc<Function>) {
        let live = Live { function, ended: CancellationToken::new() };
        let before = self.lock().insert(address, live);
        if let Some(before) = before {
            before.ended.cancel();
        }
    }

    /// Ends the sandbox on `address`: its connections break, with the requests that run on them, and new ones are
    /// refused. Says whether there was one.
    pub fn end(&self, address: SocketAddr) -> bool {
        let ended = self.lock().remove(&address);
        if let Some(live) = &ended {
            live.ended.cancel();
        }
        ended.is_some()
    }

    /// Whether a sandbox lives on `address`, and how to serve a connection to it.
    ///
    /// # Errors
    /// When none does: reset the connection, so that the client knows at once.
    pub fn connection(&self, address: SocketAddr) -> Result<Connection, NotHere> {
        self.lock().get(&address).cloned().map(Connection).ok_or(NotHere(address))
    }

    /// Serves `io`, which a client opened to `local`, until the client closes it or the sandbox ends.
    ///
    /// # Errors
    /// At once when no sandbox lives there.
    pub async fn serve<I>(&self, io: I, local: SocketAddr) -> Result<(), NotHere>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.connection(local)?.serve(io).await;
        Ok(())
    }

    /// How many live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A map that every change leaves whole, so a panic elsewhere does not make it unusable.
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

/// Sandboxes whose process ends must not leave connections that nobody ends.
impl Drop for Sandboxes {
    fn drop(&mut self) {
        for live in self.lock().values() {
            live.ended.cancel();
        }
    }
}
