//! One `dirigent` daemon as a child process with its own directory.

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

/// Longest wait until a daemon listens, which includes reading a long command log.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two checks for its ports. Short, because it adds to the measured time of a restart.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

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
    /// If the program does not exist or does not listen in time.
    pub(crate) fn start(program: &Path, directory: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).context("making a data directory")?;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = spawn(program, directory, &arguments)?;
        let (program, directory) = (program.to_owned(), directory.to_owned());
        let mut daemon = Self { program, arguments, directory, child, ports: BTreeMap::new() };
        daemon.await_ports()?;
        Ok(daemon)
    }

    /// A control plane on free ports. Without a token, because only this program uses it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn control_plane(program: &Path, directory: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let any = "127.0.0.1:0";
        let own = ["control-plane", "--no-auth", "--stream", any, "--http", any];
        Self::start(program, directory, &[&own[..], arguments].concat())
    }

    /// Kills it and starts it again on the same ports after `downtime`. Returns the time from that start until it
    /// listens.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn restart(&mut self, downtime: Duration) -> anyhow::Result<Duration> {
        self.kill();
        // A killed daemon leaves it behind.
        let _ = fs::remove_file(self.path("ports.json"));
        sleep(downtime);
        // The ports it had, since its peers connect to these again.
        fix_ports(&mut self.arguments, &self.ports);
        let began = Instant::now();
        self.child = spawn(&self.program, &self.directory, &self.arguments)?;
        self.await_ports()?;
        Ok(began.elapsed())
    }

    fn await_ports(&mut self) -> anyhow::Result<()> {
        let ports = self.path("ports.json");
        let began = Instant::now();
        while !ports.is_file() {
            if self.child.try_wait().context("waiting for a daemon")?.is_some() || began.elapsed() > START_TIMEOUT {
                let log = fs::read_to_string(self.path("log")).unwrap_or_default();
                bail!("`dirigent {}` does not listen; its log: {log}", self.arguments.join(" "));
            }
            sleep(POLL_INTERVAL);
        }
        self.ports = read_json(&ports).context("a daemon's ports")?;
        Ok(())
    }

    /// Its address for `purpose`, as in ports.json.
    pub(crate) fn port(&self, purpose: &str) -> SocketAddr {
        self.ports[purpose]
    }

    /// Number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Path of a file in its directory.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// CPU time it has used, user and system, in microseconds. The kernel counts in ticks, usually of 10 ms.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn cpu_us(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).context(path)?;
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).unsigned_abs();
        Ok(cpu_ticks(&text) * 1_000_000 / per_second)
    }

    /// Its resident anonymous memory, in KiB.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn memory_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).context(path)?;
        Ok(anonymous_kib(&text))
    }

    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // Reaped, so that its ports and its lock on the data directory are free for the next start.
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Replaces the value of each option that is named like a port by the address of that port.
fn fix_ports(arguments: &mut [String], ports: &BTreeMap<String, SocketAddr>) {
    for (purpose, address) in ports {
        let option = format!("--{purpose}");
        if let Some(index) = arguments.iter().position(|argument| *argument == option) {
            arguments[index + 1] = address.to_string();
        }
    }
}

/// User and system time in `/proc/PID/stat` (proc_pid_stat(5)), in clock ticks.
fn cpu_ticks(stat: &str) -> u64 {
    // The name, in parentheses, may have spaces and parentheses itself. utime and stime are the 12th and 13th field
    // after it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// `RssAnon` in `/proc/PID/status` (proc_pid_status(5)), in KiB; 0 if a kernel does not report it.
fn anonymous_kib(status: &str) -> u64 {
    // Without file pages, such as those of the program itself: the kernel can drop them at any time.
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn spawn(program: &Path, directory: &Path, arguments: &[String]) -> anyhow::Result<Child> {
    let log = fs::File::create(directory.join("log")).context("making a log")?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--data-dir").arg(directory);
    // Daemons log to standard error; the file is shown if one does not start.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let hint = || format!("starting {} (cargo build --release --bins makes it)", program.display());
    command.spawn().with_context(hint)
}

/// Blocks the thread.
#[allow(clippy::disallowed_methods, reason = "called outside of any async runtime")]
pub(crate) fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_daemon_gets_the_ports_that_it_had() {
        let mut arguments = ["control-plane", "--stream", "127.0.0.1:0", "--http", "127.0.0.1:0"].map(str::to_owned);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        // A port without an option of its name stays out of the arguments.
        let ports = [("stream", 4001), ("http", 4002), ("other", 4003)];
        fix_ports(&mut arguments, &ports.map(|(purpose, port)| (purpose.to_owned(), address(port))).into());
        assert_eq!(arguments, ["control-plane", "--stream", "127.0.0.1:4001", "--http", "127.0.0.1:4002"]);
    }

    #[test]
    fn cpu_time_is_read_after_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) 1 (b) S 3 4 5 0 -1 4194560 1 2 3 4 250 30 7 8 20 0 1 0 12345 1000 42";
        assert_eq!(cpu_ticks(stat), 280, "user and system time, without that of children");
        assert_eq!(cpu_ticks(""), 0);
    }

    #[test]
    fn memory_is_the_anonymous_part_of_the_resident_set() {
        assert_eq!(anonymous_kib("Name:\td\nVmRSS:\t  900 kB\nRssAnon:\t  512 kB\nRssFile:\t 388 kB\n"), 512);
        assert_eq!(anonymous_kib("Name:\td\n"), 0, "a zombie has none");
    }
}
