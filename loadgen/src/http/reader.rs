//! Reads the responses on one HTTP/1.1 connection, for as long as it lives.

use std::{io, pin::pin, sync::Arc, time::Duration};

use record::Outcome;
use tokio::{
    io::AsyncReadExt,
    net::tcp::OwnedReadHalf,
    time::{Instant, sleep, timeout},
};

use crate::http::{connection::Connection, http1::Http1, response::parse, target::Connections};

/// The reading side of a connection.
pub(crate) struct ResponseReader {
    http1: Arc<Http1>,
    connection: Arc<Connection>,
    read: OwnedReadHalf,
    /// The bytes read of the current response.
    buffer: Vec<u8>,
    /// Time of its first byte, in nanoseconds from the start.
    first_byte_ns: Option<u64>,
}

/// The next step of a reader.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    LingeringClose,
    End,
}

/// Room for the responses of a function, which are a few hundred bytes; grows when one is larger.
const RESPONSE_BUFFER_BYTES: usize = 2048;

/// Longest wait, after the only invocation of a connection, for the system to close it first, so that the port in
/// TIME_WAIT is the system's, which needs one, and not one of this machine's few.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

impl ResponseReader {
    /// The reading side of a connection on which a request has been written.
    pub(crate) fn new(http1: Arc<Http1>, connection: Arc<Connection>, read: OwnedReadHalf) -> Self {
        Self { http1, connection, read, buffer: Vec::with_capacity(RESPONSE_BUFFER_BYTES), first_byte_ns: None }
    }

    /// Reads responses until the connection ends; whatever was sent on it has its end noted by then.
    pub(crate) async fn run(mut self) {
        // No invocation is overdue before this fires, nor is one sent meanwhile, so it need not be set for each of them.
        let Some(left) = self.check() else { return };
        let mut check = pin!(sleep(left));
        loop {
            let read = tokio::select! {
                biased;
                read = self.read.read_buf(&mut self.buffer) => read,
                () = &mut check => match self.check() {
                    Some(left) => {
                        check.as_mut().reset(Instant::now() + left);
                        continue;
                    }
                    None => return,
                },
            };
            let next = match read {
                Ok(0) => self.ended(None),
                Ok(_) => self.progress(false),
                Err(error) => self.ended(Some(&error)),
            };
            match next {
                Next::Read => {}
                Next::End => return,
                Next::LingeringClose => return self.lingering_close().await,
            }
        }
    }

    /// Time until the next check for an overdue invocation; `None` if one was overdue and its connection was closed.
    fn check(&self) -> Option<Duration> {
        let replay = &self.http1.replay;
        let now_ns = replay.clock.now_ns();
        let deadline_ns = match self.connection.pending() {
            Some(pending) => pending.deadline_ns,
            None => now_ns.saturating_add(replay.target.timeout_ns()),
        };
        if deadline_ns > now_ns {
            return Some(Duration::from_nanos(deadline_ns - now_ns));
        }
        if let Some(pending) = self.http1.forget(&self.connection) {
            let within = humantime::format_duration(replay.target.timeout);
            self.http1.failed(pending, Outcome::Timeout, format!("no response within {within}"));
        }
        None
    }

    /// Looks at what has been read; `ended` says that no more will come.
    fn progress(&mut self, ended: bool) -> Next {
        let now_ns = self.http1.replay.clock.now_ns();
        let first_byte_ns = *self.first_byte_ns.get_or_insert(now_ns);
        let response = match parse(self.http1.replay.target.profile.signals, &self.buffer, ended) {
            Ok(Some(response)) => response,
            Ok(None) if !ended => return Next::Read,
            Ok(None) => return self.broken("the response was cut off"),
            Err(malformed) => return self.broken(&malformed.to_string()),
        };
        // A response without a request (a proxy's idle time-out, say) ends the connection.
        let Some(pending) = self.connection.take_pending() else { return self.broken("") };
        let next = if ended {
            Next::End
        } else if response.reusable && self.http1.replay.target.connections == Connections::Pooled {
            Next::Read
        } else {
            Next::LingeringClose
        };
        // Released before the response is evaluated: the next invocation may be due.
        if next == Next::Read {
            self.http1.release(&self.connection);
        } else {
            self.http1.forget(&self.connection);
        }
        self.http1.completed(pending, response, [first_byte_ns, now_ns]);
        self.buffer.clear();
        self.first_byte_ns = None;
        next
    }

    /// The system closed the connection, in order or not.
    fn ended(&mut self, error: Option<&io::Error>) -> Next {
        if !self.buffer.is_empty() && error.is_none() {
            return self.progress(true);
        }
        if let Some(pending) = self.http1.forget(&self.connection) {
            if self.buffer.is_empty() {
                self.http1.no_response(pending, error);
            } else {
                let how = error.map_or_else(String::new, ToString::to_string);
                self.http1.failed(pending, Outcome::Error, format!("the response was cut off: {how}"));
            }
        }
        Next::End
    }

    fn broken(&self, problem: &str) -> Next {
        if let Some(pending) = self.http1.forget(&self.connection) {
            self.http1.failed(pending, Outcome::Error, problem.to_owned());
        }
        Next::End
    }

    async fn lingering_close(mut self) {
        self.buffer.clear();
        let closed = async {
            while matches!(self.read.read_buf(&mut self.buffer).await, Ok(1..)) {
                self.buffer.clear();
            }
        };
        // Whether it was closed in time does not matter: it is dropped either way.
        let _ = timeout(LINGER_TIMEOUT, closed).await;
    }
}
