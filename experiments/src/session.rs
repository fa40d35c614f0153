//! Resources of every step of a run: the launcher of children, the interrupt, and the console.

use std::{os::unix::process::ExitStatusExt, path::Path, process::ExitStatus, time::Duration};

use anyhow::Context;
use nix::sys::signal::Signal;
use record::{DirectoryLock, Holder, LockError};
use thiserror::Error;

use crate::{
    console::Console,
    exit::{Exit, Interrupted, SystemFailed},
    interrupt::{Interrupt, wait_regardless},
    isolation,
    run::repetition::now,
    system::{
        launch::{Launcher, Output},
        process::{Process, describe},
    },
};

/// Grace periods of a command after each request to stop, before it is killed. After the first request a load generator
/// waits for responses, after the second it ends at once.
const STOP_GRACES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(5)];

/// Access of a command to child processes, the user's signals and the console.
#[derive(Debug)]
pub struct Session {
    /// Starts children.
    pub launcher: Launcher,
    /// The user's requests to stop.
    pub interrupt: Interrupt,
    /// Progress output.
    pub console: Console,
    /// The process id by which the user knows this run: inside a private namespace it has another.
    pub process: u32,
}

/// A command that runs to its end.
#[derive(Clone, Debug)]
pub struct ChildCommand<'a> {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub folder: &'a Path,
    /// Destination of the output.
    pub output: Output,
    /// Longest time it may take.
    pub timeout: Duration,
}

/// A command ended with an exit code that is not accepted, or did not end in time.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct CommandFailed {
    /// The end of the command.
    pub how: CommandEnd,
    message: String,
}

/// The end of a command that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed, since it took too long.
    Overdue,
}

impl CommandFailed {
    /// Attributes the failure of a system's own command to the system, unless the command could not be started: that is a
    /// fault of the configuration.
    #[must_use]
    pub fn of_system(error: anyhow::Error) -> anyhow::Error {
        if error.is::<Self>() { SystemFailed::of(error) } else { error }
    }

    /// The same of a command of the harness that asks the system for something: that the system did not do it is the system's
    /// doing. That the command did not know its options, or was ended by a signal, is not.
    #[must_use]
    pub fn of_harness(error: anyhow::Error) -> anyhow::Error {
        let refused = CommandEnd::Code(Exit::Failed as i32);
        let is_of_system = |failed: &Self| failed.how == refused || failed.how == CommandEnd::Overdue;
        if error.downcast_ref().is_some_and(is_of_system) { SystemFailed::of(error) } else { error }
    }
}

impl ChildCommand<'_> {
    /// The program's name without its folder.
    fn program(&self) -> String {
        let name = self.command.first().map(|program| Path::new(program).file_name());
        name.flatten().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

impl Session {
    /// Console and interrupt, for a long step.
    #[must_use]
    pub fn watch(&self) -> (&Console, &Interrupt) {
        (&self.console, &self.interrupt)
    }

    /// Takes the lock of a run's directory: whoever writes into it does so alone.
    ///
    /// # Errors
    /// If another process has it, which is named.
    pub fn lock(&self, directory: &Path) -> Result<DirectoryLock, LockError> {
        let purpose = isolation::typed(std::env::args()).join(" ");
        DirectoryLock::take(directory, &Holder { process: self.process, since: now(), purpose })
    }

    /// Starts a command.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, command: &ChildCommand<'_>) -> anyhow::Result<Process> {
        let program = command.program();
        let child = self.launcher.start(&command.command, command.folder, &command.output);
        let child = child.with_context(|| format!("cannot start {program}"))?;
        Ok(Process::new(&program, child, command.output.log()))
    }

    /// Runs a command to its end; when the user asks to stop, it is ended too.
    ///
    /// # Errors
    /// If it cannot be started, fails or takes too long: with the end of its log. [`Interrupted`] when the user
    /// asked to stop.
    pub fn run(&self, command: &ChildCommand<'_>) -> anyhow::Result<()> {
        self.run_accepting(command, &[0]).map(drop)
    }

    /// The same for a command with several `accepted` exit codes; returns the one it ended with.
    ///
    /// # Errors
    /// As of [`Session::run`], and when it ended with another code.
    pub fn run_accepting(&self, command: &ChildCommand<'_>, accepted: &[i32]) -> anyhow::Result<i32> {
        let mut process = self.start(command)?;
        match self.interrupt.wait(command.timeout, || process.ended()) {
            Ok(Some(status)) if status.code().is_some_and(|code| accepted.contains(&code)) => {
                Ok(status.code().unwrap_or_default())
            }
            Ok(Some(status)) => {
                let last = process.last_message().map_or_else(String::new, |line| format!(": {line}"));
                let message = format!("{} {}{last}; {}", command.program(), describe(status), process.excerpt());
                let how = match (status.code(), status.signal()) {
                    (Some(code), _) => CommandEnd::Code(code),
                    (None, signal) => CommandEnd::Signal(signal.unwrap_or_default()),
                };
                Err(CommandFailed { how, message }.into())
            }
            Ok(None) => {
                process.kill();
                let (program, timeout) = (command.program(), command.timeout.as_secs());
                let message = format!("{program} did not end within {timeout} s; {}", process.excerpt());
                Err(CommandFailed { how: CommandEnd::Overdue, message }.into())
            }
            Err(Interrupted) => {
                stop_politely(&mut process);
                Err(Interrupted.into())
            }
        }
    }
}

/// Asks a command to stop as Ctrl-C would, twice if need be, so that it keeps what it has; kills it when it does not.
pub fn stop_politely(process: &mut Process) -> Option<ExitStatus> {
    for grace in STOP_GRACES {
        process.signal(Signal::SIGINT);
        if let Some(status) = wait_regardless(grace, || process.ended()) {
            return Some(status);
        }
    }
    process.kill();
    process.ended()
}
