//! Requests to stop: after the first, nothing more is sent and responses are awaited; the second ends the run at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use nix::sys::signal::{SigSet, Signal};

/// Number of the user's requests to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicU8);

impl Stop {
    /// Listens for Ctrl-C and for the termination signal from here on, for as long as the process lives.
    ///
    /// To be called before other threads are started: they inherit that these signals are not for them, so that a
    /// signal interrupts no system call.
    ///
    /// # Errors
    /// If the signals cannot be blocked or the listening thread cannot be started.
    pub(crate) fn listen() -> io::Result<Arc<Self>> {
        Self::listen_and(|_| {})
    }

    /// The same, and calls `each_time` on each request: for work in progress that cannot poll this.
    ///
    /// # Errors
    /// As of [`Stop::listen`].
    pub(crate) fn listen_and(each_time: impl Fn(&Self) + Send + 'static) -> io::Result<Arc<Self>> {
        let stop = Arc::new(Self::default());
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let listener = Arc::clone(&stop);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while signals.wait().is_ok() {
                listener.request_stop();
                each_time(&listener);
            }
        })?;
        Ok(stop)
    }

    /// Returns true if nothing more is to be sent.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Returns true if nothing more is to be waited for.
    pub(crate) fn is_immediate(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }

    /// Stops at once: what is sent from here on could not be recorded.
    pub(crate) fn abort(&self) {
        self.0.store(u8::MAX, Ordering::Relaxed);
    }

    /// Notes one more asking. Only the signal thread and tests do, so that load and store need not be one step.
    fn request_stop(&self) {
        let is_requested = self.0.load(Ordering::Relaxed);
        self.0.store(is_requested.saturating_add(1), Ordering::Relaxed);
    }
}
