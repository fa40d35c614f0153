//! The control plane that is measured: a child process with a data directory of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use model::FunctionSpec;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use record::{ColdStart, read_json, read_table};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::options::{KEEP_ALIVE, Options};

/// A control plane listens within this time.
const START: Duration = Duration::from_secs(10);
/// Pause between looks for its ports.
const LOOK: Duration = Duration::from_millis(10);
/// Functions in one request.
const CHUNK: u32 = 10_000;
/// CPU that a function's sandbox reserves, in millicores, and memory, in MiB: any node has room for thousands.
const SANDBOX_CPU: u32 = 1;
const SANDBOX_MEMORY: u32 = 1;

/// A running control plane. Dropping it ends it and removes its data.
pub(crate) struct Subject {
    child: Child,
    directory: TempDir,
    ports: BTreeMap<String, SocketAddr>,
}

impl Subject {
    /// Starts `dirigent control-plane` and waits until it listens.
    ///
    /// # Errors
    /// When there is no such program, or it does not listen in time.
    pub(crate) fn start(options: &Options) -> anyhow::Result<Self> {
        let program = match &options.dirigent {
            Some(path) => path.clone(),
            None => std::env::current_exe().context("finding this program")?.with_file_name("dirigent"),
        };
        let directory = tempfile::tempdir().context("making a data directory")?;
        let path = directory.path();
        let mut command = Command::new(&program);
        command.args(["control-plane", "--stream", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(path);
        if !options.no_record {
            command.arg("--record").arg(path);
        }
        let log = fs::File::create(path.join("log")).context("making a log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let hint = || format!("starting {} (cargo build --release --bins makes it)", program.display());
        let child = command.spawn().with_context(hint)?;
        let mut subject = Self { child, directory, ports: BTreeMap::new() };
        let ports = subject.path("ports.json");
        let began = Instant::now();
        while !ports.is_file() {
            if subject.child.try_wait().context("waiting for the control plane")?.is_some() || began.elapsed() > START {
                bail!("the control plane does not listen; it said: {}", subject.said());
            }
            pause();
        }
        subject.ports = read_json(&ports).context("the control plane's ports")?;
        Ok(subject)
    }

    /// Where data planes and workers connect.
    pub(crate) fn stream(&self) -> SocketAddr {
        self.ports["stream"]
    }

    /// Registers every function, in bulk. How long that took.
    ///
    /// # Errors
    /// When a function is refused.
    pub(crate) fn register(&self, options: &Options) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let all = options.functions() + options.idle_functions;
        let url = format!("http://{}/v1/functions", self.ports["http"]);
        for first in (0..all).step_by(CHUNK as usize) {
            let mut body = String::new();
            for number in first..all.min(first + CHUNK) {
                body.push_str(&serde_json::to_string(&specification(number)?)?);
                body.push('\n');
            }
            let request = ureq::post(&url).header("content-type", "application/x-ndjson");
            let answer = request.send(body).context("registering functions")?.body_mut().read_to_string()?;
            if let Some(refused) = answer.lines().find(|line| line.contains("\"error\"") || line.contains("problem")) {
                bail!("a function was refused: {refused}");
            }
        }
        Ok(began.elapsed())
    }

    /// How many functions are registered.
    pub(crate) fn registered(&self, options: &Options) -> f64 {
        f64::from(options.functions() + options.idle_functions)
    }

    /// CPU time it has used, user and system, in microseconds; to the kernel's tick, mostly 10 ms.
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

    /// Memory it holds, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn memory_kib(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).context(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0))
    }

    /// How each creation went, as far as it is written.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn cold_starts(&self) -> anyhow::Result<Vec<ColdStart>> {
        // The control plane goes on writing: the row that is being written is left out.
        let mut text = fs::read(self.path("coldstarts.csv")).context("reading coldstarts.csv")?;
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
        let whole = self.path("coldstarts-whole.csv");
        fs::write(&whole, text).context("copying coldstarts.csv")?;
        Ok(read_table(&whole)?)
    }

    /// Its log.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Nothing else runs yet, so the thread may sleep.
#[allow(clippy::disallowed_methods, reason = "no runtime exists while the control plane is started")]
fn pause() {
    std::thread::sleep(LOOK);
}

fn specification(number: u32) -> anyhow::Result<FunctionSpec> {
    let mut spec = FunctionSpec::new(Options::function_name(number).parse()?, "driver");
    (spec.cpu, spec.memory) = (SANDBOX_CPU, SANDBOX_MEMORY);
    spec.scale.max = Some(1);
    spec.scale.stable_window = KEEP_ALIVE;
    spec.scale.panic_window = Some(KEEP_ALIVE);
    Ok(spec)
}
