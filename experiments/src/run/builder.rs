//! Commands that build programs, which take minutes. Each has a process group of its own, which is ended as a whole when
//! the user asks to stop, because a signal to this process alone would not reach it.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    interrupt::{Interrupt, wait_regardless},
    machine::proc::Stat,
};

/// Longest time that a build may take: Kubernetes and Knative take a quarter of an hour on two cores.
const BUILD_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Grace of a build that is to stop, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A build under way.
#[derive(Debug)]
pub struct Builder {
    child: Child,
}

impl Builder {
    /// Starts a command.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        let program = command.get_program().display();
        Ok(Self { child: child.with_context(|| format!("cannot start {program}"))? })
    }

    /// Takes its standard output, if that is piped.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until it has ended; when the user asks to stop, it is ended.
    ///
    /// # Errors
    /// [`crate::exit::Interrupted`] when the user asked to stop; when it takes too long.
    pub fn wait(mut self, interrupt: &Interrupt) -> anyhow::Result<ExitStatus> {
        match interrupt.wait(BUILD_TIMEOUT, || self.child.try_wait().transpose()) {
            Ok(Some(status)) => status.context("waiting for a build"),
            Ok(None) => {
                self.end();
                bail!("it did not end within {} s", BUILD_TIMEOUT.as_secs())
            }
            Err(interrupted) => {
                self.end();
                Err(interrupted.into())
            }
        }
    }

    /// Ends the whole group. As long as its first process has not been waited for, no other group has its id.
    fn end(&mut self) {
        let Ok(id) = i32::try_from(self.child.id()) else { return };
        let group = Pid::from_raw(id);
        // These calls fail only if all processes of the group have ended.
        let _ = killpg(group, Signal::SIGTERM);
        let _ = wait_regardless(GRACE, || Stat::read(id).is_none_or(|stat| stat.state == 'Z').then_some(()));
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
