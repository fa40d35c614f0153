//! Invocations over HTTP/1.1: a pool of idle connections per address, and new ones on demand. The last one used goes
//! first; connections that were opened beforehand are used round-robin, so that all of them are in use.
//!
//! One task per connection reads its responses for as long as it lives. There is no cap on connections but the machine's;
//! hitting that one is reported as "unsent", never as the system's failure.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use record::Outcome;
use tokio::{net::TcpStream, runtime, time::timeout};

use crate::{
    http::{
        connection::{Connection, OWN_LIMIT, Pending, Sent, is_own_limit},
        dial::Dialler,
        reader::ResponseReader,
        response::ParsedResponse,
        result::InvocationResult,
        target::{Connections, Target},
    },
    measure::ledger::Finished,
    replay::Replay,
};

/// HTTP/1.1 towards the target of a replay.
#[derive(Debug)]
pub(crate) struct Http1 {
    /// The replay it sends for.
    pub(crate) replay: Arc<Replay>,
    /// Idle connections per address.
    idle: Vec<Mutex<VecDeque<Arc<Connection>>>>,
}

/// A connection opened before the replay, and the position of its address in the target's.
pub(crate) type Opened = (std::net::TcpStream, usize);

/// Opens as many connections as the target asks for.
///
/// # Errors
/// If one cannot be opened.
pub(crate) fn open(target: &Target) -> anyhow::Result<Vec<Opened>> {
    let (dialler, count) = (Dialler::default(), usize::try_from(target.open).unwrap_or(0));
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut opened = Vec::with_capacity(count);
        for (position, address) in target.addresses.iter().enumerate().cycle().take(count) {
            let connected = timeout(target.timeout, dialler.connect(*address)).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let stream = connected.with_context(|| address.to_string())?;
            opened.push((stream.into_std()?, position));
        }
        Ok(opened)
    })
}

/// Room for a request with the longest function name.
const REQUEST_BYTES: usize = 512;

/// The error of an invocation of whose request the kernel took only a part: it is not sent again.
const CUT_REQUEST: &str = "connection took only a part of the request";

impl Http1 {
    /// No connections yet.
    pub(crate) fn new(replay: Arc<Replay>) -> Self {
        let idle = replay.target.addresses.iter().map(|_| Mutex::default()).collect();
        Self { replay, idle }
    }

    /// Reads connections that were opened beforehand, on the runtime of the I/O thread that owns them.
    pub(crate) fn adopt_opened(self: &Arc<Self>, opened: Vec<Opened>) {
        for (stream, address) in opened {
            // One that cannot be registered is closed, and another opened when it is needed.
            let Ok(stream) = TcpStream::from_std(stream) else { continue };
            let (read, write) = stream.into_split();
            let connection = Arc::new(Connection::new(write, address));
            self.release(&connection);
            drop(tokio::spawn(ResponseReader::new(Arc::clone(self), connection, read).run()));
        }
    }

    /// Sends an invocation on an idle connection; false when there is none, and nothing was sent.
    pub(crate) fn send_idle(&self, index: usize, request: &mut Vec<u8>) -> bool {
        let (Some(due), address) = (self.replay.due(index), self.replay.address_of(index)) else { return false };
        // Each iteration takes one connection out of the pool, so this ends.
        while let Some(connection) = self.take_idle(address) {
            self.replay.requests.write(due, request);
            self.replay.ledger.sent(index, self.replay.clock.now_ns());
            let pending = Pending { index, deadline_ns: self.replay.deadline_ns(index) };
            match connection.send(pending, request) {
                Sent::Whole => return true,
                Sent::Nothing => {}
                Sent::Part => {
                    self.failed(pending, Outcome::Error, CUT_REQUEST.to_owned());
                    return true;
                }
            }
        }
        false
    }

    /// Sends an invocation, on a new connection if none has become idle meanwhile, and reads from that connection until it ends.
    pub(crate) async fn send(self: Arc<Self>, index: usize) {
        let mut request = Vec::with_capacity(REQUEST_BYTES);
        let pooled = self.replay.target.connections == Connections::Pooled;
        if pooled && self.send_idle(index, &mut request) {
            return;
        }
        let Some(due) = self.replay.due(index) else { return };
        // From here the system's accept queue decides how long it takes: connecting is part of sending.
        self.replay.ledger.sent(index, self.replay.clock.now_ns());
        let address = self.replay.address_of(index);
        let stream = match self.connect(index, address).await {
            Ok(stream) => stream,
            Err(error) => return self.connect_failed(index, &error),
        };
        self.replay.requests.write(due, &mut request);
        let (read, write) = stream.into_split();
        let connection = Arc::new(Connection::new(write, address));
        let pending = Pending { index, deadline_ns: self.replay.deadline_ns(index) };
        match connection.send(pending, &request) {
            Sent::Whole => ResponseReader::new(self, connection, read).run().await,
            Sent::Nothing => self.no_response(pending, Some(&io::ErrorKind::BrokenPipe.into())),
            Sent::Part => self.failed(pending, Outcome::Error, CUT_REQUEST.to_owned()),
        }
    }

    async fn connect(&self, index: usize, address: usize) -> io::Result<TcpStream> {
        let none = || SocketAddr::from(([0, 0, 0, 0], 0));
        let to = self.replay.target.addresses.get(address).copied().unwrap_or_else(none);
        let left_ns = self.replay.deadline_ns(index).saturating_sub(self.replay.clock.now_ns());
        let connected = timeout(Duration::from_nanos(left_ns), self.replay.dialler.connect(to)).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Returns a connection whose response has been read to the pool, as the first to be used again.
    pub(crate) fn release(&self, connection: &Arc<Connection>) {
        self.idle(connection.address).push_back(Arc::clone(connection));
    }

    /// Ends a connection: nothing is sent on it any more. Returns the invocation that has no response.
    pub(crate) fn forget(&self, connection: &Arc<Connection>) -> Option<Pending> {
        self.idle(connection.address).retain(|idle| !Arc::ptr_eq(idle, connection));
        connection.close()
    }

    /// Notes a response.
    pub(crate) fn completed(
        &self,
        pending: Pending,
        mut response: ParsedResponse<'_>,
        [first_byte_ns, done_ns]: [u64; 2],
    ) {
        let profile = &self.replay.target.profile;
        profile.signals.read_body(&mut response.signals, &response.body);
        let function = self.replay.function_of(pending.index);
        let result = InvocationResult::of(profile.response, response.status, &response.body, function);
        self.replay.ledger.finish(Finished {
            index: pending.index,
            first_byte_ns: Some(first_byte_ns),
            done_ns: Some(done_ns),
            status: Some(response.status),
            signals: response.signals,
            result,
        });
    }

    /// Notes that an invocation's connection ended before any byte of its response. It is a failure also where the
    /// system had closed an idle connection: the request was written, so nobody here knows that it was not executed.
    pub(crate) fn no_response(&self, pending: Pending, error: Option<&io::Error>) {
        let how = error.map_or_else(|| "closed".to_owned(), ToString::to_string);
        self.failed(pending, Outcome::Error, format!("connection ended without a response: {how}"));
    }

    /// Notes an invocation that failed after it was sent.
    pub(crate) fn failed(&self, pending: Pending, outcome: Outcome, error: String) {
        self.replay.ledger.finish(Finished::failed(pending.index, self.replay.clock.now_ns(), outcome, error));
    }

    /// Notes an invocation that got no connection.
    fn connect_failed(&self, index: usize, error: &io::Error) {
        let now_ns = self.replay.clock.now_ns();
        let finished = if is_own_limit(error) {
            self.replay.ledger.unsend(index);
            let reason = format!("{OWN_LIMIT}: {error}");
            Finished { done_ns: None, ..Finished::failed(index, now_ns, Outcome::Unsent, reason) }
        } else if error.kind() == io::ErrorKind::TimedOut {
            Finished::failed(index, now_ns, Outcome::Timeout, "no connection within the time-out")
        } else {
            Finished::failed(index, now_ns, Outcome::Error, format!("cannot connect: {error}"))
        };
        self.replay.ledger.finish(finished);
    }

    fn take_idle(&self, address: usize) -> Option<Arc<Connection>> {
        let mut idle = self.idle(address);
        // The connection used last is the one least likely to have been closed while idle. Connections that were opened
        // beforehand are there to be used, all of them, so those go round-robin.
        if self.replay.target.open > 0 { idle.pop_front() } else { idle.pop_back() }
    }

    fn idle(&self, address: usize) -> MutexGuard<'_, VecDeque<Arc<Connection>>> {
        // An address is always a position in the target's addresses, for each of which there is a pool.
        self.idle[address].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
