//! A sandbox granted to this data plane: its address, its idle connections, and handles to abort all open ones.

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

/// Consecutive connections that end without a response before a sandbox is taken for broken. One may be chance.
const BREAKS_IN_A_ROW: u32 = 2;

/// A connection idle for longer is checked by a system call before use, because the runtime may not have noticed its
/// close yet. Under load connections are idle for less and need no check.
const DOUBTFUL_US: u64 = 100_000;

/// Requests that must not be sent twice use only connections idle for at most this fraction of the idle timeout. A
/// sandbox whose own idle timeout is little longer than ours, or even shorter, closes none of those meanwhile.
const UNREPEATABLE_IDLE_DIVISOR: u64 = 8;

/// The reason why no connection could be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The sandbox refused it.
    #[error("connection refused: {0}")]
    Refused(io::Error),
    /// Refused at a loopback address while the sandbox may be on another host.
    #[error(
        "connection refused: {source}; {address} is a loopback address, which only its own machine can connect to: set \
         process.address on the worker"
    )]
    NotOnThisHost { address: SocketAddr, source: io::Error },
    /// The sandbox did not accept it within `limits.connect_timeout`.
    #[error("no connection within {0} ms")]
    Timeout(u128),
    /// Not attempted: the sandbox was not known to exist for too long, and its address may have been reused.
    #[error("it is not known whether the sandbox is still there")]
    NotTrusted,
    /// Attempted, but trust ran out before the connection was open.
    #[error("the connection took so long that its address may have been reused")]
    TrustExpired,
    /// This process is out of resources, which is not the sandbox's fault.
    #[error("out of resources here: {0}")]
    Local(io::Error),
    /// The protocol's handshake failed.
    #[error("handshake: {0}")]
    Handshake(hyper::Error),
}

impl OpenError {
    /// Returns true if the failure is local to this process.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }
}

pub(crate) struct Sandbox {
    id: SandboxId,
    address: SocketAddr,
    protocol: Protocol,
    /// Idle timeout of its connections, microseconds.
    connection_idle_us: u64,
    ready_us: u64,
    header: HeaderValue,
    /// Connections that ended without a response since the last response.
    breaks: AtomicU32,
    /// Time at which a connection last became idle, microseconds; 0 before the first.
    used_us: AtomicU64,
    /// Time of the last input that was read as it arrived, microseconds. The sandbox cannot have sent it much earlier.
    received_us: AtomicU64,
    /// Start of the last successful probe, and of the last probe, microseconds; 0 before the first.
    probe_succeeded_us: AtomicU64,
    probe_started_us: AtomicU64,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    /// The most recently used one is at the end and is used next.
    idle: VecDeque<IdleConnection>,
    /// Handles of all open connections, and of some that have ended.
    open: Vec<Weak<IoMonitor>>,
    closed: bool,
    /// Registered with [`IdleConnections`](super::IdleConnections).
    known: bool,
}

struct IdleConnection {
    connection: UpstreamConnection,
    since_us: u64,
}

impl Sandbox {
    /// A sandbox of a function with `config` that became ready at `ready_us`.
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

    pub(crate) fn id(&self) -> SandboxId {
        self.id
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Time at which it became ready, microseconds. It may have been granted to another data plane before.
    pub(crate) fn ready_us(&self) -> u64 {
        self.ready_us
    }

    /// Its id as a header value, formatted once.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Records a successful probe that started at `began_us`.
    pub(super) fn probe_succeeded(&self, began_us: u64) {
        self.probe_succeeded_us.fetch_max(began_us, Ordering::Relaxed);
    }

    /// Records the start of a probe.
    pub(super) fn probe_started(&self, now_us: u64) {
        self.probe_started_us.store(now_us, Ordering::Relaxed);
    }

    /// Start of the last probe, 0 before the first.
    pub(super) fn probe_started_us(&self) -> u64 {
        self.probe_started_us.load(Ordering::Relaxed)
    }

    /// Time at which it was last known to exist, microseconds.
    pub(super) fn known_us(&self, plane: &Plane, now_us: u64) -> u64 {
        plane.trust.known_us(
            self.received_us.load(Ordering::Relaxed),
            self.probe_succeeded_us.load(Ordering::Relaxed),
            now_us,
        )
    }

    /// Records that a response head or a close was read at `now_us`, as it arrived. Anything read later proves nothing,
    /// like the rest of a response that the client reads slowly: the sandbox may have ended long before.
    pub(crate) fn observed_alive(&self, now_us: u64) {
        self.received_us.store(now_us, Ordering::Relaxed);
    }

    /// Time at which a connection last became idle, 0 before the first.
    pub(crate) fn used_us(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Takes the most recently used idle connection, skipping closed ones. A request that is not `repeatable` avoids
    /// connections that the sandbox is likely to close just now.
    pub(crate) async fn take_idle(&self, plane: &Plane, now_us: u64, repeatable: bool) -> Option<UpstreamConnection> {
        let max_idle_us =
            if repeatable { self.connection_idle_us } else { self.connection_idle_us / UNREPEATABLE_IDLE_DIVISOR };
        // Each check consumes cooperative budget of the task. With the budget exhausted every connection would look
        // alive, so the search runs unconstrained; it is bounded by the number of connections.
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
            // From the end, so that connections beyond what the load needs are left to exceed their idle timeout.
            let IdleConnection { mut connection, since_us } = self.lock().idle.pop_back()?;
            plane.idle.taken(1);
            let idle_us = now_us.saturating_sub(since_us);
            if idle_us >= max_idle_us {
                // The others have been idle for longer. This one is closed, so that replacements do not accumulate.
                return None;
            }
            if connection.is_alive(idle_us > DOUBTFUL_US, cx) {
                return Some(connection);
            }
        }
    }

    /// Closes the connections that exceed the idle timeout and returns their number.
    pub(super) fn close_aged(&self, plane: &Plane, now_us: u64) -> usize {
        let mut connections = self.lock();
        let aged = |idle: &IdleConnection| now_us.saturating_sub(idle.since_us) >= self.connection_idle_us;
        let fresh = connections.idle.iter().position(|idle| !aged(idle)).unwrap_or(connections.idle.len());
        let aged: Vec<_> = connections.idle.drain(..fresh).collect();
        drop(connections);
        plane.idle.taken(aged.len());
        aged.len()
    }

    /// Keeps a connection for the next invocation.
    pub(crate) fn put_idle(self: &Arc<Self>, mut connection: UpstreamConnection, plane: &Plane, now_us: u64) {
        self.used_us.store(now_us, Ordering::Relaxed);
        let mut connections = self.lock();
        // A closed sandbox gets no further invocation; a zero idle timeout means a connection for each.
        if connections.closed || self.connection_idle_us == 0 {
            return;
        }
        connection.mark_idle();
        connections.idle.push_back(IdleConnection { connection, since_us: now_us });
        // Counted under the lock, so that it cannot be taken before it is counted.
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

    /// Closes the idle connections and keeps no further one.
    pub(crate) fn close_idle(&self, plane: &Plane) {
        let mut connections = self.lock();
        connections.closed = true;
        let idle = std::mem::take(&mut connections.idle);
        drop(connections);
        plane.idle.taken(idle.len());
    }

    /// Closes the idle connections to free file descriptors.
    pub(crate) fn shed_idle(&self, plane: &Plane) {
        let idle = std::mem::take(&mut self.lock().idle);
        plane.idle.taken(idle.len());
    }

    pub(crate) fn has_idle(&self) -> bool {
        !self.lock().idle.is_empty()
    }

    /// Aborts every connection: the sandbox does not exist any more.
    pub(crate) fn break_off(&self) {
        for monitor in std::mem::take(&mut self.lock().open) {
            if let Some(monitor) = monitor.upgrade() {
                monitor.break_off();
            }
        }
    }

    /// Opens a connection, if the sandbox is trusted to exist.
    pub(crate) async fn open(&self, plane: &Plane) -> Result<UpstreamConnection, OpenError> {
        let now_us = plane.clock.now_us();
        if !is_trusted(self.known_us(plane, now_us), now_us) {
            return Err(OpenError::NotTrusted);
        }
        // Idle connections yield before clients lose descriptors.
        if plane.is_short_of_descriptors() {
            plane.idle.shed(plane, MAX_SHED_AT_ONCE, 0);
        }
        let limit = plane.config.limits.connect_timeout;
        let late = |_| OpenError::Timeout(limit.as_millis());
        let connected = timeout(limit, plane.network.connect_to(self.address)).await;
        let now_us = plane.clock.now_us();
        // The process may have been suspended meanwhile, and the time-out may be long. Checked before the result is
        // judged, because a refusal by whatever has the address now says nothing about this sandbox.
        if !is_the_same(self.known_us(plane, now_us), now_us) {
            return Err(OpenError::TrustExpired);
        }
        let io = connected.map_err(late)?.map_err(|error| self.not_connected(error, &plane.config))?;
        let open = UpstreamConnection::open(io, self.protocol, &plane.config.limits);
        let connection = timeout(limit, open).await.map_err(late)?.map_err(OpenError::Handshake)?;
        plane.metrics.connection_opened();
        let mut connections = self.lock();
        if connections.open.len() == connections.open.capacity() {
            // Ended ones are dropped whenever the list would grow, which bounds it by twice the open ones.
            connections.open.retain(|monitor| monitor.strong_count() > 0);
        }
        connections.open.push(Arc::downgrade(connection.monitor()));
        if connections.closed {
            // The sandbox was removed while the connection was being made: fail the first read.
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

    /// Records a response, which ends a series of breaks.
    pub(crate) fn responded(&self) {
        // Mostly zero: the warm path then needs no write to a shared cache line.
        if self.breaks.load(Ordering::Relaxed) != 0 {
            self.breaks.store(0, Ordering::Relaxed);
        }
    }

    /// Records a connection that ended without a response. Returns true if the sandbox is to be taken for broken.
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

/// Classifies a failed connect. EMFILE, ENFILE, ENOBUFS and ENOMEM have no kind of their own.
fn of_connect(error: io::Error) -> OpenError {
    const OUT_OF: [i32; 4] = [24, 23, 105, 12];
    // AddrNotAvailable: connections to this address have used up the machine's local ports.
    let ours = matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory);
    if ours || error.raw_os_error().is_some_and(|code| OUT_OF.contains(&code)) {
        OpenError::Local(error)
    } else {
        OpenError::Refused(error)
    }
}
