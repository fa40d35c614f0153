//! One process of a system under test, from start to end, with its log.

use std::{
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::interrupt::wait_regardless;

/// Time for a killed process to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// Its role, for example `worker-1`.
    pub name: String,
    /// Its process id.
    pub pid: i32,
    log: Option<PathBuf>,
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Owns a child that writes its log to `log`.
    #[must_use]
    pub fn new(name: &str, child: Child, log: Option<&Path>) -> Self {
        let pid = i32::try_from(child.id()).expect("process ids are positive and fit in 31 bits");
        Self { name: name.to_owned(), pid, log: log.map(Path::to_owned), child, status: None }
    }

    /// Exit status; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Sends a signal, unless the process has ended: its id may be reused by then.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // It fails only if the process has just ended.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = wait_regardless(KILL_TIMEOUT, || self.ended());
    }

    /// The last message in its log, if any.
    #[must_use]
    pub fn last_message(&self) -> Option<String> {
        self.log.as_deref().and_then(terminal::log::last_message)
    }

    /// The end of its log, for an error message.
    #[must_use]
    pub fn excerpt(&self) -> String {
        self.log.as_deref().map(terminal::log::excerpt).unwrap_or_default()
    }
}

/// The end of a process, in words.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
