//! A sandbox granted to this data plane: where it is, its idle connections, and all that are open, to break them off.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use http::HeaderValue;
use model::{Endpoint, Protocol, SandboxId};
use thiserror::Error;
use tokio::{task::unconstrained, time::timeout};

use super::{
    UpstreamConnection,
    idle::MAX_SHED_AT_ONCE,
    monitored_io::IoMonitor,
    trust::{is_the_same, is_trusted},
};
use crate::{Config, function::FunctionConfig, plane::Plane};

/// A sandbox is taken for broken when its connections end without an answer this many times in a row.
const BREAKS_IN_A_ROW: u32 = 2;

/// A connection idle for longer is looked at by a system call before it is used: its end may have come without the
/// runtime having been told. Under load connections rest for less, and are spared it.
const DOUBTFUL_US: u64 = 100_000;

/// Requests that must not be sent twice take only connections that were idle for this part of the longest time: a
/// sandbox whose own time for idle connections is little above ours, or even below it, ends none of those meanwhile.
const UNREPEATABLE_IDLE_DIVISOR: u64 = 8;

/// No connection could be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The sandbox does not take it.
    #[error("connection refused: {0}")]
    Refused(io::Error),
    /// Perhaps it does, but where it is.
    #[error(
        "connection refused: {source}; {address} is a loopback address, which only its own machine can connect to: set \
         process.address on the worker"
    )]
    NotOnThisHost { address: SocketAddr, source: io::Error },
    /// It did not take it within the time-out.
    #[error("no connection within {0} ms")]
    Timeout(u128),
    /// It was not tried: nobody said for too long that the sandbox is there, and its address may be another one's.
    #[error("it is not known whether the sandbox is still there")]
    NotTrusted,
    /// It was tried, and took until that was so.
    #[error("the connection took so long that it is not known whether it is to the sandbox")]
    TrustExpired,
    /// This process cannot open more connections: not the sandbox's fault.
    #[error("out of resources here: {0}")]
    Local(io::Error),
    /// The protocol did not begin.
    #[error("handshake: {0}")]
    Handshake(hyper::Error),
}

impl OpenError {
    /// Whether it is this process that cannot, not the sandbox.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}

/// A sandbox.
pub(crate) struct Sandbox {
    id: SandboxId,
    address: SocketAddr,
    protocol: Protocol,
    /// How long its connections are idle at most, microseconds.
    connection_idle_us: u64,
    ready_us: u64,
    header: HeaderValue,
    /// Connections that ended without an answer since the last answer.
    breaks: AtomicU32,
    /// When a connection of it was last put aside, microseconds; 0 before the first.
    used_us: AtomicU64,
    /// When something of it was last read as it came, which it cannot have sent much earlier.
    received_us: AtomicU64,
    /// When a look at it began that found it there, and when the last one did.
    probe_succeeded_us: AtomicU64,
    probe_started_us: AtomicU64,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    /// The one used last is at the end and is used next.
    idle: VecDeque<IdleConnection>,
    /// Every open connection, and some that have ended.
    open: Vec<Weak<IoMonitor>>,
    closed: bool,
    /// Whether the list of sandboxes with idle connections has this one.
    known: bool,
}

/// An idle connection.
struct IdleConnection {
    connection: UpstreamConnection,
    since_us: u64,
}

impl Sandbox {
    /// A sandbox of a function with `terms` that became ready at `ready_us`.
    pub(crate) fn new(endpoint: Endpoint, config: &FunctionConfig, ready_us: u64) -> Self {
        let header = HeaderValue::from_str(&endpoint.sandbox.to_string()).expect("an id is digits and a hyphen");
        Self {
            id: endpoint.sandbox,
            address: endpoint.address,
            protocol: config.protocol,
            connection_idle_us: config.connection_idle_us,
            ready_us,
            header,
            breaks: AtomicU32::new(0),
            used_us: AtomicU64::new(0),
            received_us: AtomicU64::new(0),
            probe_succeeded_us: AtomicU64::new(0),
            probe_started_us: AtomicU64::new(0),
            connections: Mutex::default(),
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> SandboxId {
        self.id
    }

    /// The protocol that it speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When it became ready, in microseconds of the data plane's clock; before that it may have been granted elsewhere.
    pub(crate) fn ready_us(&self) -> u64 {
        self.ready_us
    }

    /// Its id as a header value.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It took a connection that was tried at `began_us`.
    pub(super) fn probe_succeeded(&self, began_us: u64) {
        self.probe_succeeded_us.fetch_max(began_us, Ordering::Relaxed);
    }

    /// A look at it begins.
    pub(super) fn probe_started(&self, now_us: u64) {
        self.probe_started_us.store(now_us, Ordering::Relaxed);
    }

    /// When the last look at it began, 0 before the first.
    pub(super) fn probe_started_us(&self) -> u64 {
        self.probe_started_us.load(Ordering::Relaxed)
    }

    /// When it was last known to be there.
    pub(super) fn known_us(&self, plane: &Plane, now_us: u64) -> u64 {
        plane.trust.known_us(
            self.received_us.load(Ordering::Relaxed),
            self.probe_succeeded_us.load(Ordering::Relaxed),
            now_us,
        )
    }

    /// It began a response, or ended a connection, at `now_us`: that was read as it came. Nothing is to be said of what was
    /// read later, like the rest of a response that the client takes slowly: the sandbox may have ended long before.
    pub(crate) fn observed_alive(&self, now_us: u64) {
        self.received_us.store(now_us, Ordering::Relaxed);
    }

    /// When a connection of it was last put aside, 0 before the first.
    pub(crate) fn used_us(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Takes the idle connection used last, passing over ended ones. `repeatable`: whether the request may be sent again
    /// should the connection end just now; one that may not takes none that is likely to.
    pub(crate) async fn take_idle(&self, plane: &Plane, now_us: u64, repeatable: bool) -> Option<UpstreamConnection> {
        let max_idle_us =
            if repeatable { self.connection_idle_us } else { self.connection_idle_us / UNREPEATABLE_IDLE_DIVISOR };
        // Each look costs the task a part of its turn. When the turn is used up every connection looks alive, so that
        // must not happen within the search; the search is bounded by the connections that there are.
        unconstrained(poll_fn(|cx| Poll::Ready(self.search_idle(plane, now_us, max_idle_us, cx)))).await
    }

    fn search_idle(
        &self,
        plane: &Plane,
        now_us: u64,
        max_idle_us: u64,
        cx: &mut Context<'_>,
    ) -> Option<UpstreamConnection> {
        loop {
            let IdleConnection { mut connection, since_us } = self.lock().idle.pop_back()?;
            plane.idle.taken(1);
            let idle_us = now_us.saturating_sub(since_us);
            if idle_us >= max_idle_us {
                // The others have been idle for longer. This one is closed, so that those that replace it do not add up.
                return None;
            }
            if connection.is_alive(idle_us > DOUBTFUL_US, cx) {
                return Some(connection);
            }
        }
    }

    /// Closes the connections that have been idle for too long; how many.
    pub(super) fn close_aged(&self, plane: &Plane, now_us: u64) -> usize {
        let mut connections = self.lock();
        let aged = |idle: &IdleConnection| now_us.saturating_sub(idle.since_us) >= self.connection_idle_us;
        let fresh = connections.idle.iter().position(|idle| !aged(idle)).unwrap_or(connections.idle.len());
        let aged: Vec<_> = connections.idle.drain(..fresh).collect();
        drop(connections);
        plane.idle.taken(aged.len());
        aged.len()
    }

    /// Puts a connection aside for the next invocation.
    pub(crate) fn put_idle(self: &Arc<Self>, mut connection: UpstreamConnection, plane: &Plane, now_us: u64) {
        self.used_us.store(now_us, Ordering::Relaxed);
        let mut connections = self.lock();
        if connections.closed || self.connection_idle_us == 0 {
            return;
        }
        connection.mark_idle();
        connections.idle.push_back(IdleConnection { connection, since_us: now_us });
        // Counted under the lock, so that nobody can take it before it is counted.
        let crowded = plane.idle.put();
        let first = !std::mem::replace(&mut connections.known, true);
        drop(connections);
        if first {
            plane.idle.enlist(self);
        }
        if crowded {
            plane.idle.shed_beyond(plane);
        }
    }

    /// Closes the idle connections, and lets no further one be put aside.
    pub(crate) fn close_idle(&self, plane: &Plane) {
        let mut connections = self.lock();
        connections.closed = true;
        let idle = std::mem::take(&mut connections.idle);
        drop(connections);
        plane.idle.taken(idle.len());
    }

    /// Closes the idle connections, to make room for others.
    pub(crate) fn shed_idle(&self, plane: &Plane) {
        let idle = std::mem::take(&mut self.lock().idle);
        plane.idle.taken(idle.len());
    }

    /// Whether it has idle connections.
    pub(crate) fn has_idle(&self) -> bool {
        !self.lock().idle.is_empty()
    }

    /// Breaks every connection off: the sandbox is no more.
    pub(crate) fn break_off(&self) {
        for monitor in std::mem::take(&mut self.lock().open) {
            if let Some(monitor) = monitor.upgrade() {
                monitor.break_off();
            }
        }
    }

    /// Opens a connection.
    pub(crate) async fn open(&self, plane: &Plane) -> Result<UpstreamConnection, OpenError> {
        let now_us = plane.clock.now_us();
        if !is_trusted(self.known_us(plane, now_us), now_us) {
            return Err(OpenError::NotTrusted);
        }
        if plane.is_short_of_descriptors() {
            plane.idle.shed(plane, MAX_SHED_AT_ONCE, 0);
        }
        let limit = plane.config.limits.connect_timeout;
        let late = |_| OpenError::Timeout(limit.as_millis());
        let connected = timeout(limit, plane.network.connect_to(self.address)).await;
        let now_us = plane.clock.now_us();
        // Meanwhile this process may have stood still, and the time-out may be long.
        if !is_the_same(self.known_us(plane, now_us), now_us) {
            return Err(OpenError::TrustExpired);
        }
        let io = connected.map_err(late)?.map_err(|error| self.not_connected(error, &plane.config))?;
        let open = UpstreamConnection::open(io, self.protocol, &plane.config.limits);
        let connection = timeout(limit, open).await.map_err(late)?.map_err(OpenError::Handshake)?;
        plane.metrics.connection_opened();
        let mut connections = self.lock();
        if connections.open.len() == connections.open.capacity() {
            // Ended ones are dropped whenever the list would grow, so it stays within twice the open ones.
            connections.open.retain(|monitor| monitor.strong_count() > 0);
        }
        connections.open.push(Arc::downgrade(connection.monitor()));
        if connections.closed {
            // It went away while the connection was being made: let the first read fail.
            connection.monitor().break_off();
        }
        drop(connections);
        Ok(connection)
    }

    fn not_connected(&self, error: io::Error, config: &Config) -> OpenError {
        match of_connect(error) {
            OpenError::Refused(source) if self.address.ip().is_loopback() && config.may_be_alone_here() => {
                OpenError::NotOnThisHost { address: self.address, source }
            }
            other => other,
        }
    }

    /// A connection brought an answer.
    pub(crate) fn responded(&self) {
        if self.breaks.load(Ordering::Relaxed) != 0 {
            self.breaks.store(0, Ordering::Relaxed);
        }
    }

    /// A connection ended without an answer. True when that was once too often.
    pub(crate) fn broke(&self) -> bool {
        self.breaks.fetch_add(1, Ordering::Relaxed) + 1 >= BREAKS_IN_A_ROW
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sandbox({} at {})", self.id, self.address)
    }
}

/// Sorts a failed connect by whose fault it is. EMFILE, ENFILE, ENOBUFS, ENOMEM have no kind of their own.
fn of_connect(error: io::Error) -> OpenError {
    const OUT_OF: [i32; 4] = [24, 23, 105, 12];
    let ours = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory);
    if ours || error.raw_os_error().is_some_and(|code| OUT_OF.contains(&code)) {
        OpenError::Local(error)
    } else {
        OpenError::Refused(error)
    }
}
