//! One HTTP/1.1 connection: at most one invocation on it at a time, written by whichever thread took it from the pool.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, Shutdown, recv, shutdown},
};
use tokio::net::tcp::OwnedWriteHalf;

/// The invocation a connection is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its position in the schedule.
    pub(crate) index: usize,
    /// Its deadline, in nanoseconds from the start.
    pub(crate) deadline_ns: u64,
}

/// The part of a request that the kernel took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of it: the reader of the connection reports the end.
    Whole,
    /// Not one byte, so that it may be sent on another connection without ever being executed twice.
    Nothing,
    /// Some of it: the invocation failed.
    Part,
}

#[derive(Debug, Default)]
struct State {
    pending: Option<Pending>,
    closed: bool,
}

/// The writing half of a connection and what it is busy with.
#[derive(Debug)]
pub(crate) struct Connection {
    write: OwnedWriteHalf,
    /// Its address, as a position in the target's addresses.
    pub(crate) address: usize,
    state: Mutex<State>,
}

impl Connection {
    /// An idle connection to an address of the target.
    pub(crate) fn new(write: OwnedWriteHalf, address: usize) -> Self {
        Self { write, address, state: Mutex::default() }
    }

    /// Writes a request. Unless the kernel took all of it, the connection is of no more use.
    ///
    /// An end of the connection that has arrived but has not been read yet is looked for first: a request written after
    /// it is lost, and whether the system executed it is then unknown, so that it could not be sent again.
    pub(crate) fn send(&self, pending: Pending, request: &[u8]) -> Sent {
        if self.has_ended() {
            // Its reader takes it out of the pool as soon as it has run.
            self.state().closed = true;
            return Sent::Nothing;
        }
        {
            let mut state = self.state();
            if state.closed {
                return Sent::Nothing;
            }
            // Before writing: the response may be read by another thread before the write has returned.
            state.pending = Some(pending);
        }
        match self.write.try_write(request) {
            Ok(written) if written == request.len() => Sent::Whole,
            written => {
                // A reader that has taken it first has seen the close too and reports it.
                let taken = self.close().is_some();
                let _ = shutdown(self.write.as_ref().as_raw_fd(), Shutdown::Both);
                match written {
                    _ if !taken => Sent::Whole,
                    Ok(1..) => Sent::Part,
                    Ok(0) | Err(_) => Sent::Nothing,
                }
            }
        }
    }

    /// Returns true if the system has closed it, or has written without a request (a time-out of its own, say).
    fn has_ended(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.write.as_ref().as_raw_fd(), &mut [0], flags) != Err(Errno::EAGAIN)
    }

    /// Takes the invocation whose response has been read.
    pub(crate) fn take_pending(&self) -> Option<Pending> {
        self.state().pending.take()
    }

    /// The invocation it is busy with.
    pub(crate) fn pending(&self) -> Option<Pending> {
        self.state().pending
    }

    /// Lets nothing more be sent, and takes the invocation that has no response.
    pub(crate) fn close(&self) -> Option<Pending> {
        let mut state = self.state();
        state.closed = true;
        state.pending.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns true if this machine, not the system, could not make a connection: no descriptor or no port left.
pub(crate) fn is_own_limit(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// The error of an invocation that this machine could not send.
pub(crate) const OWN_LIMIT: &str = "the load generator ran out of descriptors or ports";
