//! The keeper of one child process: reads its output, waits for its end, ends it when told, and clears up after it.

use std::{
    process::ExitStatus,
    sync::{Arc, OnceLock},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{self, AsyncReadExt},
    net::unix::pipe::Receiver,
    process::Child,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::log::Log;

/// Output read at once.
const READ_BYTES: usize = 8 * 1024;
/// Time for what is left in the pipe after the process has ended. Only a descendant that holds it open takes so long.
const DRAIN: Duration = Duration::from_millis(50);
/// Stands for "not yet" where a deadline is expected.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// One child and what belongs to it.
pub(super) struct Keeper {
    pub(super) child: Child,
    /// Its process group, which is its own.
    pub(super) group: Pid,
    /// Its standard output and error.
    pub(super) output: Receiver,
    pub(super) log: Arc<Log>,
    /// Set when it is to end.
    pub(super) stop: CancellationToken,
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// Why it was ended, if for what it did.
    pub(super) cause: Arc<OnceLock<String>>,
}

impl Keeper {
    /// Keeps the process until it has ended and is reaped; says how it ended.
    pub(super) async fn keep(mut self) -> String {
        let status = self.attend().await;
        // What it started and left behind. The group's number cannot belong to others yet: it was in use just now.
        signal_group(self.group, Signal::SIGKILL);
        let _ = timeout(DRAIN, drain(&mut self.output, &self.log)).await;
        self.cause.get().cloned().unwrap_or_else(|| describe(status))
    }

    async fn attend(&mut self) -> io::Result<ExitStatus> {
        let mut buffer = vec![0; READ_BYTES];
        let (mut open, mut told, mut killed) = (true, false, false);
        let mut deadline = Instant::now() + FAR;
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                () = self.stop.cancelled(), if !told => {
                    told = true;
                    deadline = Instant::now() + self.grace;
                    signal_group(self.group, Signal::SIGTERM);
                }
                () = sleep_until(deadline), if told && !killed => {
                    killed = true;
                    signal_group(self.group, Signal::SIGKILL);
                }
                read = self.output.read(&mut buffer), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(length) => self.log.append(&buffer[..length]),
                },
            }
        }
    }
}

/// Reads until nobody holds the other end.
async fn drain(output: &mut Receiver, log: &Log) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        log.append(&buffer[..length]);
    }
}

/// Fails only when nobody of the group is left.
fn signal_group(group: Pid, signal: Signal) {
    let _ = killpg(group, signal);
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        // Display says `exit status: 1` or `signal: 9 (SIGKILL)`.
        Ok(status) => status.to_string(),
        Err(error) => format!("cannot tell how it ended: {error}"),
    }
}
