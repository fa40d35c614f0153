//! One process of a cluster: started on free ports with its data in a directory, ended when it is dropped, whatever
//! happened. What it wrote is shown when the test has failed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::wait::wait_for;

/// Lines of a daemon's log that are shown when a test has failed.
const SHOWN_LINES: usize = 60;

/// The program under test.
pub(crate) fn dirigent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dirigent"))
}

/// A daemon that runs, or has run and can be started again.
pub(crate) struct Daemon {
    /// Its name within the cluster.
    pub(crate) name: String,
    role: &'static str,
    directory: PathBuf,
    /// By purpose: what it was asked for at first, what it really has once it has started.
    addresses: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Daemon {
    /// Starts `dirigent ROLE` with `configuration`, on any free port for each purpose, and waits until it listens.
    pub(crate) fn start(role: &'static str, name: &str, parent: &Path, purposes: &[&str], configuration: &str) -> Self {
        let directory = parent.join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config.toml"), configuration).unwrap();
        let addresses = purposes.iter().map(|purpose| ((*purpose).to_owned(), "127.0.0.1:0".to_owned()));
        let mut daemon = Self { name: name.to_owned(), role, directory, addresses: addresses.collect(), child: None };
        daemon.start_again();
        daemon
    }

    /// Starts it on the ports it had before.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let path = self.directory.join("ports.json");
        // One that was killed could not take its file back, and the next one needs a moment to do so.
        let _ = fs::remove_file(&path);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        let mut command = dirigent();
        command.arg(self.role).arg("--config").arg(self.directory.join("config.toml"));
        command.arg("--data-dir").arg(&self.directory);
        for (purpose, address) in &self.addresses {
            command.arg(format!("--{purpose}")).arg(address);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).env("RUST_LOG", "info");
        self.child = Some(command.spawn().unwrap());
        self.addresses = wait_for(&format!("{} to announce its ports", self.name), || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{} ended: {status}", self.name);
            }
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        });
    }

    /// Its address for a purpose.
    pub(crate) fn address(&self, purpose: &str) -> &str {
        self.addresses.get(purpose).unwrap_or_else(|| panic!("{} has no address for {purpose}", self.name))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id()
    }

    /// Returns true if it was started and not ended by the test.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends a signal.
    pub(crate) fn send(&self, signal: Signal) {
        signal::kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.send(signal);
        let mut child = self.child.take().unwrap();
        let status = wait_for(&format!("{} to end on {signal}", self.name), || match child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err("it runs".to_owned()),
        });
        drop(child);
        status
    }

    /// Ends it as a crash would: at once and without a word.
    pub(crate) fn crash(&mut self) {
        self.end(Signal::SIGKILL);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- {}, last {} of {} lines\n{}", self.name, shown.len(), lines.len(), shown.join("\n"));
        }
    }
}
