//! The supervisor of one child process: reads its output, ends it on request, waits for its end and ends its process
//! group.

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

/// Output read in one call.
const READ_BYTES: usize = 8 * 1024;
/// Longest wait for the rest of the output after the process has ended. Only a descendant that still holds the pipe
/// takes so long.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

/// One child process and its resources.
pub(super) struct Supervisor {
    pub(super) child: Child,
    /// The process group of which the child is the leader.
    pub(super) group: Pid,
    /// Its standard output and error.
    pub(super) output: Receiver,
    pub(super) log: Arc<Log>,
    /// Cancelled when the child has to end.
    pub(super) stop: CancellationToken,
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// The reason, if the monitor ended it.
    pub(super) cause: Arc<OnceLock<String>>,
}

impl Supervisor {
    /// Supervises the process until it has ended and is reaped. Returns the cause of its end.
    pub(super) async fn run(mut self) -> String {
        let status = self.wait_for_exit().await;
        // Ends the descendants in its group. The system cannot have given the group's number to others yet: it was in
        // use just now.
        signal_group(self.group, Signal::SIGKILL);
        let _ = timeout(OUTPUT_DRAIN_TIMEOUT, drain(&mut self.output, &self.log)).await;
        self.cause.get().cloned().unwrap_or_else(|| describe(status))
    }

    async fn wait_for_exit(&mut self) -> io::Result<ExitStatus> {
        let mut buffer = vec![0; READ_BYTES];
        let (mut is_open, mut is_stopping) = (true, false);
        // Set between SIGTERM and SIGKILL.
        let mut kill_at = None;
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    kill_at = Some(Instant::now() + self.grace);
                    signal_group(self.group, Signal::SIGTERM);
                }
                () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                    kill_at = None;
                    signal_group(self.group, Signal::SIGKILL);
                }
                read = self.output.read(&mut buffer), if is_open => match read {
                    // Closed output is no end: a program may close it and go on serving.
                    Ok(0) | Err(_) => is_open = false,
                    Ok(length) => self.log.append(&buffer[..length]),
                },
            }
        }
    }
}

/// Reads until no process holds the writing end.
async fn drain(output: &mut Receiver, log: &Log) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        log.append(&buffer[..length]);
    }
}

/// Fails only if the group is empty, which is fine.
fn signal_group(group: Pid, signal: Signal) {
    let _ = killpg(group, signal);
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        // Displayed as `exit status: 1` or `signal: 9 (SIGKILL)`.
        Ok(status) => status.to_string(),
        Err(error) => format!("its exit status is unknown: {error}"),
    }
}
