//! A cluster started with `dirigent up` on free ports, ended when it is dropped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;
use tokio::time::Instant;

/// Longest wait for anything a test expects; far above what it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Interval between polls of an awaited state.
const POLL: Duration = Duration::from_millis(20);

/// The program under test.
pub(crate) fn dirigent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dirigent"))
}

/// Calls `check` until it succeeds; fails after [`DEADLINE`] with `expected` and what was seen last.
pub(crate) fn wait_for<T>(expected: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match check() {
            Ok(found) => return found,
            Err(seen) if since.elapsed() > DEADLINE => panic!("expected {expected} within {DEADLINE:?}; last: {seen}"),
            Err(_) => std::thread::park_timeout(POLL),
        }
    }
}

/// A running cluster.
pub(crate) struct Cluster {
    child: Child,
    data_dir: PathBuf,
    ports: Value,
}

impl Cluster {
    /// Starts a cluster with one worker that keeps its data in `data_dir`, and waits until it listens.
    pub(crate) fn start(runtime: &str, data_dir: &Path) -> Self {
        Self::start_with(&["--runtime", runtime], data_dir)
    }

    /// The same with these options of `up`.
    pub(crate) fn start_with(options: &[&str], data_dir: &Path) -> Self {
        let mut command = dirigent();
        command.args(["up", "--workers", "1", "--data-dir"]).arg(data_dir).args(options);
        for port in ["--stream-port", "--http-port", "--invoke-port", "--admin-port", "--worker-port"] {
            command.args([port, "0"]);
        }
        // One that was killed could not take its file back, and the next one needs a moment to do so.
        let path = data_dir.join("ports.json");
        let _ = fs::remove_file(&path);
        let log = fs::File::create(data_dir.join("stderr.log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let ports = wait_for("ports.json of the cluster", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the cluster ended: {status}\n{}", fs::read_to_string(data_dir.join("stderr.log")).unwrap());
            }
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        });
        let cluster = Self { child, data_dir: data_dir.to_owned(), ports };
        wait_for("a ready node", || {
            let nodes = cluster.operator(&["node", "list", "--format", "csv"]);
            let text = String::from_utf8(nodes.stdout).unwrap();
            if text.lines().count() > 1 { Ok(()) } else { Err(text) }
        });
        cluster
    }

    /// The address for a purpose, as ports.json has it.
    pub(crate) fn address(&self, purpose: &str) -> String {
        self.ports[purpose].as_str().unwrap_or_else(|| panic!("no {purpose} in {}", self.ports)).to_owned()
    }

    /// Runs an operator's subcommand against this cluster.
    pub(crate) fn operator(&self, arguments: &[&str]) -> Output {
        let mut command = dirigent();
        command.args(arguments).args(["--control-plane", &self.address("http")]);
        // Below the data directory of the cluster, where its token is found.
        command.current_dir(&self.data_dir).output().unwrap()
    }

    /// Runs an operator's subcommand that must succeed, and gives its standard output.
    pub(crate) fn operator_ok(&self, arguments: &[&str]) -> String {
        let output = self.operator(arguments);
        assert!(output.status.success(), "{arguments:?}: expected success, found {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Invokes a function once.
    pub(crate) fn invoke(&self, name: &str, more: &[&str]) -> Output {
        dirigent().args(["invoke", name, "--data-plane", &self.address("invoke")]).args(more).output().unwrap()
    }

    /// Begins an invocation that runs for `run_ms` milliseconds, and waits until a sandbox runs it.
    pub(crate) fn begin_invocation(&self, name: &str, run_ms: u32) -> Child {
        let requested = format!("requested_cpu: {run_ms}");
        let mut command = dirigent();
        command.args(["invoke", name, "--data-plane", &self.address("invoke")]);
        command.args(["--header", "workload: trace", "--header", &requested]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("a running invocation", || {
            let shown = self.operator_ok(&["function", "show", name, "--format", "json"]);
            let shown: Value = serde_json::from_str(&shown).unwrap();
            if shown["running"] == 1 { Ok(()) } else { Err(shown.to_string()) }
        });
        child
    }

    /// Sends a signal.
    pub(crate) fn send(&self, signal: Signal) {
        signal::kill(self.pid(), signal).unwrap();
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        self.send(signal);
        let child = &mut self.child;
        let log = self.data_dir.join("stderr.log");
        wait_for("the cluster's end", || {
            child.try_wait().unwrap().ok_or_else(|| fs::read_to_string(&log).unwrap_or_default())
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
