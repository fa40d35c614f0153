//! SIGINT and SIGTERM as a counter that waiting code polls, so that a signal never interrupts clean-up.
//!
//! The signals are blocked and read from a file descriptor by a thread of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::SignalFd,
};

use crate::exit::Interrupted;

/// Poll interval of waits: short against anything waited for, and without measurable load.
const POLL: Duration = Duration::from_millis(20);

/// Count of the user's requests to stop: the first means cleanly, the second without grace.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU32>);

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP from now on. Must be called before any other thread exists, because only
    /// threads started later inherit the blocked signals.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> anyhow::Result<Self> {
        let signals = block()?;
        let source = SignalFd::new(&signals).context("taking signals")?;
        let interrupt = Self::default();
        let count = Arc::clone(&interrupt.0);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Ok(Some(_)) = source.read_signal() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })?;
        Ok(interrupt)
    }

    /// Number of the user's requests to stop.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns an error if the user requested to stop.
    ///
    /// # Errors
    /// [`Interrupted`] when so.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.count() == 0 { Ok(()) } else { Err(Interrupted) }
    }

    /// Waits until `poll` returns a value, at most `timeout`; `None` after that.
    ///
    /// # Errors
    /// [`Interrupted`] when the user asks to stop meanwhile.
    pub fn wait<T>(&self, timeout: Duration, mut poll: impl FnMut() -> Option<T>) -> Result<Option<T>, Interrupted> {
        let deadline = Instant::now() + timeout;
        loop {
            self.check()?;
            if let Some(value) = poll() {
                return Ok(Some(value));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

/// Blocks the signals by which a user stops the program, in this thread and its children: they stay pending until a process
/// listens.
///
/// # Errors
/// If the system refuses.
pub fn block() -> anyhow::Result<SigSet> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("blocking signals")?;
    Ok(signals)
}

/// Waits likewise, but ignores the user's requests to stop: clean-up must complete.
pub fn wait_regardless<T>(timeout: Duration, poll: impl FnMut() -> Option<T>) -> Option<T> {
    Interrupt::default().wait(timeout, poll).ok().flatten()
}
