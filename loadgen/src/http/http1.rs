//! Invocations over HTTP/1.1: a pool of idle connections per address, and new ones on demand. The last one used goes
//! first; connections that were asked to be open beforehand go in turn, so that all of them are in use.
//!
//! One task per connection reads its answers for as long as it lives. There is no cap on connections but the machine's;
//! hitting that one is reported as "unsent", never as the system's failure.

use std::{
    collections::VecDeque,
    io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use record::Outcome;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    http::{
        answer::Answer,
        carrier::Carrier,
        connection::{Connection, OWN_LIMIT, Pending, is_own_limit},
        dial::Dialler,
        facts::Verdict,
        target::{Connections, Target},
    },
    measure::ledger::Finished,
    replay::{
        Replay,
        handover::{Handed, Lane},
    },
};

/// HTTP/1.1 towards the target of a replay.
#[derive(Debug)]
pub(crate) struct Http1 {
    /// The replay it sends for.
    pub(crate) replay: Arc<Replay>,
    /// Idle connections per address.
    idle: Vec<Mutex<VecDeque<Arc<Connection>>>>,
    /// Connections opened before the replay, until a lane carries them.
    opened: Mutex<Vec<Opened>>,
    /// Opens connections on demand.
    dialler: Dialler,
    /// Where to hand an invocation that must be sent again.
    again: Arc<Lane>,
}

/// A connection opened before the replay, and the position of its address in the target's.
pub(crate) type Opened = (std::net::TcpStream, usize);

/// Opens as many connections as the target asks for.
///
/// # Errors
/// When one cannot be opened.
pub(crate) fn open(target: &Target) -> io::Result<Vec<Opened>> {
    let addresses = target.addresses.iter().enumerate().cycle();
    let open = |(position, address): (usize, &SocketAddr)| {
        let stream = std::net::TcpStream::connect_timeout(address, target.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok((stream, position))
    };
    addresses.take(usize::try_from(target.open).unwrap_or(0)).map(open).collect()
}

/// A pooled connection that ends without an answer this soon after a request was written to it had been closed by the
/// system while idle: the request is sent once more, on a new connection. Later than that, the system failed.
const CLOSED_WHILE_IDLE_NS: u64 = 100_000_000;

/// Room for a request with the longest function name.
const REQUEST_BYTES: usize = 512;

impl Http1 {
    /// No connections but those `opened` yet. `again` is the lane for second sendings.
    pub(crate) fn new(replay: Arc<Replay>, again: Arc<Lane>, opened: Vec<Opened>) -> Self {
        let idle = replay.target.addresses.iter().map(|_| Mutex::default()).collect();
        Self { replay, idle, opened: Mutex::new(opened), dialler: Dialler::default(), again }
    }

    /// Carries the connections that were opened beforehand, from a lane's runtime.
    pub(crate) fn carry_opened(self: &Arc<Self>) {
        let opened = mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for (stream, address) in opened {
            // One that cannot be registered is closed, and another opened when it is needed.
            let Ok(stream) = TcpStream::from_std(stream) else { continue };
            let (read, write) = stream.into_split();
            let connection = Arc::new(Connection::new(write, address));
            self.release(&connection);
            drop(tokio::spawn(Carrier::new(Arc::clone(self), connection, read).run()));
        }
    }

    /// Sends an invocation on an idle connection; false when there is none, and nothing was sent.
    pub(crate) fn send_idle(&self, index: usize, request: &mut Vec<u8>) -> bool {
        let (Some(due), address) = (self.replay.due(index), self.replay.address_of(index)) else { return false };
        // Each turn takes one connection out of the pool, so this ends.
        while let Some(connection) = self.take_idle(address) {
            self.replay.requests.write(due, request);
            let written_ns = self.replay.clock.now_ns();
            self.replay.ledger.sent(index, written_ns);
            let deadline_ns = self.replay.deadline_ns(index);
            let pending = Pending { index, deadline_ns, written_ns, reused: true, resent: false };
            if connection.send(pending, request) {
                return true;
            }
        }
        false
    }

    /// Sends an invocation, on a new connection if none has become idle meanwhile, and carries that connection.
    pub(crate) async fn send(self: Arc<Self>, handed: Handed) {
        let mut request = Vec::with_capacity(REQUEST_BYTES);
        let pooled = self.replay.target.connections == Connections::Pooled;
        if pooled && !handed.resent && self.send_idle(handed.index, &mut request) {
            return;
        }
        let Some(due) = self.replay.due(handed.index) else { return };
        // From here the system's accept queue decides how long it takes: connecting is part of sending.
        self.replay.ledger.sent(handed.index, self.replay.clock.now_ns());
        let address = self.replay.address_of(handed.index);
        let stream = match self.connect(handed.index, address).await {
            Ok(stream) => stream,
            Err(error) => return self.unconnected(handed, &error),
        };
        self.replay.requests.write(due, &mut request);
        let (read, write) = stream.into_split();
        let connection = Arc::new(Connection::new(write, address));
        let pending = Pending {
            index: handed.index,
            deadline_ns: self.replay.deadline_ns(handed.index),
            written_ns: self.replay.clock.now_ns(),
            reused: false,
            resent: handed.resent,
        };
        if connection.send(pending, &request) {
            Carrier::new(self, connection, read).run().await;
        } else {
            let error = io::Error::from(io::ErrorKind::BrokenPipe);
            self.unanswered(pending, Some(&error));
        }
    }

    async fn connect(&self, index: usize, address: usize) -> io::Result<TcpStream> {
        let none = || SocketAddr::from(([0, 0, 0, 0], 0));
        let to = self.replay.target.addresses.get(address).copied().unwrap_or_else(none);
        let left_ns = self.replay.deadline_ns(index).saturating_sub(self.replay.clock.now_ns());
        let connected = timeout(Duration::from_nanos(left_ns), self.dialler.connect(to)).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Puts a connection whose answer has been read back to where the next invocation looks first.
    pub(crate) fn release(&self, connection: &Arc<Connection>) {
        self.idle(connection.address).push_back(Arc::clone(connection));
    }

    /// Ends a connection: nothing is sent on it any more. Returns the invocation that has no answer.
    pub(crate) fn forget(&self, connection: &Arc<Connection>) -> Option<Pending> {
        self.idle(connection.address).retain(|idle| !Arc::ptr_eq(idle, connection));
        connection.close()
    }

    /// Notes an answer.
    pub(crate) fn answered(&self, pending: Pending, mut answer: Answer<'_>, [first_byte_ns, done_ns]: [u64; 2]) {
        answer.facts.note_body(self.replay.target.kind, &answer.body);
        let verdict = Verdict::of(answer.status, &answer.body, self.replay.function_of(pending.index));
        self.replay.ledger.finish(Finished {
            index: pending.index,
            first_byte_ns: Some(first_byte_ns),
            done_ns: Some(done_ns),
            status: Some(answer.status),
            facts: answer.facts,
            verdict,
            resent: pending.resent,
        });
    }

    /// Notes that an invocation's connection ended before any byte of its answer, or has it sent once more if the
    /// connection must have been closed before the request arrived.
    pub(crate) fn unanswered(&self, pending: Pending, error: Option<&io::Error>) {
        let now_ns = self.replay.clock.now_ns();
        let at_once = now_ns.saturating_sub(pending.written_ns) <= CLOSED_WHILE_IDLE_NS;
        if pending.reused && at_once {
            return self.again.push(&mut vec![Handed { index: pending.index, resent: true }]);
        }
        let how = error.map_or_else(|| "closed".to_owned(), ToString::to_string);
        self.failed(pending, Outcome::Error, format!("connection ended without an answer: {how}"));
    }

    /// Notes an invocation that failed after it was sent.
    pub(crate) fn failed(&self, pending: Pending, outcome: Outcome, error: String) {
        let failed = Finished::failed(pending.index, self.replay.clock.now_ns(), outcome, error);
        self.replay.ledger.finish(Finished { resent: pending.resent, ..failed });
    }

    /// Notes an invocation that got no connection.
    fn unconnected(&self, handed: Handed, error: &io::Error) {
        let now_ns = self.replay.clock.now_ns();
        let mut finished = if is_own_limit(error) {
            self.replay.ledger.unsend(handed.index);
            let reason = format!("{OWN_LIMIT}: {error}");
            Finished { done_ns: None, ..Finished::failed(handed.index, now_ns, Outcome::Unsent, reason) }
        } else if error.kind() == io::ErrorKind::TimedOut {
            Finished::failed(handed.index, now_ns, Outcome::Timeout, "no connection within the time-out")
        } else {
            Finished::failed(handed.index, now_ns, Outcome::Error, format!("cannot connect: {error}"))
        };
        finished.resent = handed.resent;
        self.replay.ledger.finish(finished);
    }

    fn take_idle(&self, address: usize) -> Option<Arc<Connection>> {
        let mut idle = self.idle(address);
        if self.replay.target.open > 0 { idle.pop_front() } else { idle.pop_back() }
    }

    fn idle(&self, address: usize) -> MutexGuard<'_, VecDeque<Arc<Connection>>> {
        // An address is always a position in the target's addresses, for each of which there is a pool.
        self.idle[address].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
