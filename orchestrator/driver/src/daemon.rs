//! One `dirigent` daemon as a child process with a directory of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use record::read_json;
use tokio::time::Instant;

/// A daemon listens within this time, also with a long command log to read.
const START: Duration = Duration::from_secs(60);
/// Pause between looks for its ports; part of what a restart is measured to take.
const LOOK: Duration = Duration::from_millis(1);

/// A running daemon. Dropping it kills it.
pub(crate) struct Daemon {
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    child: Child,
    ports: BTreeMap<String, SocketAddr>,
}

impl Daemon {
    /// Starts `program` with `arguments` and a data directory, and waits until it listens.
    ///
    /// # Errors
    /// When there is no such program, or it does not listen in time.
    pub(crate) fn start(program: &Path, directory: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).context("making a data directory")?;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = spawn(program, directory, &arguments)?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut daemon = Self { program, arguments, directory, child, ports: BTreeMap::new() };
        daemon.await_ports()?;
        Ok(daemon)
    }

    /// A control plane on any ports, for this program alone and so without a token.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn control_plane(program: &Path, directory: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let any = "127.0.0.1:0";
        let own = ["control-plane", "--no-auth", "--stream", any, "--http", any];
        Self::start(program, directory, &[&own[..], arguments].concat())
    }

    /// Kills it, and starts it again on the ports it had, `after` that time. How long it then took until it listened.
    ///
    /// # Errors
    /// As when it was first started.
    pub(crate) fn restart(&mut self, after: Duration) -> anyhow::Result<Duration> {
        self.kill();
        // A killed daemon leaves it behind.
        let _ = fs::remove_file(self.path("ports.json"));
        sleep(after);
        for (purpose, address) in &self.ports {
            let option = format!("--{purpose}");
            if let Some(place) = self.arguments.iter().position(|argument| *argument == option) {
                self.arguments[place + 1] = address.to_string();
            }
        }
        let began = Instant::now();
        self.child = spawn(&self.program, &self.directory, &self.arguments)?;
        self.await_ports()?;
        Ok(began.elapsed())
    }

    fn await_ports(&mut self) -> anyhow::Result<()> {
        let ports = self.path("ports.json");
        let began = Instant::now();
        while !ports.is_file() {
            if self.child.try_wait().context("waiting for a daemon")?.is_some() || began.elapsed() > START {
                let said = fs::read_to_string(self.path("log")).unwrap_or_default();
                bail!("`dirigent {}` does not listen; it said: {said}", self.arguments.join(" "));
            }
            sleep(LOOK);
        }
        self.ports = read_json(&ports).context("a daemon's ports")?;
        Ok(())
    }

    /// Where it listens, by purpose.
    pub(crate) fn port(&self, purpose: &str) -> SocketAddr {
        self.ports[purpose]
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file of its directory.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// CPU time it has used, user and system, in microseconds. The kernel gives it in ticks, of 10 ms mostly.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn cpu_us(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).context(path)?;
        // The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).unsigned_abs();
        Ok(ticks.sum::<u64>() * 1_000_000 / per_second)
    }

    /// Memory of its own that it holds, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn memory_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).context(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        Ok(line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0))
    }

    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &Path, directory: &Path, arguments: &[String]) -> anyhow::Result<Child> {
    let log = fs::File::create(directory.join("log")).context("making a log")?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--data-dir").arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let hint = || format!("starting {} (cargo build --release --bins makes it)", program.display());
    command.spawn().with_context(hint)
}

/// Waits where nothing else runs on the thread.
#[allow(clippy::disallowed_methods, reason = "daemons are started outside of any runtime")]
pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
