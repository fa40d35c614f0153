//! The process runtime: a sandbox is a child process with a port of its own. Needs no privilege.
//!
//! Enforced: memory, by `RLIMIT_DATA` for each process and by a control group or by polling for the whole sandbox; an
//! own process group and working directory; death with the worker; the end of descendants soon after the sandbox. Not
//! enforced: CPU (which needs a control group); visibility of the rest of the machine; memory of files that no process
//! has mapped; and, if the worker is killed, the end of descendants, because the kernel then ends only the worker's own
//! children.

mod cgroup;
mod children;
mod config;
mod factory;
mod limits;
mod log;
mod monitor;
mod port;
mod port_history;
mod port_queue;
mod port_range;
mod process_table;
mod program;
mod spawner;
mod start;
mod supervisor;
mod system;

use std::{
    collections::{HashMap, VecDeque},
    fs::Permissions,
    io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use model::{NodeSpec, SandboxId};
use nix::sys::prctl;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use self::config::{MemoryControl, ProcessConfig};
pub(crate) use self::factory::FACTORY;
use self::{
    cgroup::Cgroups,
    log::Log,
    monitor::{Monitor, MonitoredSandbox},
    port::Ports,
    spawner::Spawner,
};
use super::{CreatedSandbox, CreationFailure, CreationRequest, Output, Runtime, Task};
use crate::creation_limiter::CreationLimiter;

/// Sandboxes as child processes. Clones share them.
#[derive(Clone)]
pub(crate) struct Process(Arc<Shared>);

struct Shared {
    config: ProcessConfig,
    /// The program of `builtin:function`.
    function: PathBuf,
    /// Address on which sandboxes take connections.
    address: IpAddr,
    ports: Ports,
    /// Parent of the working directories.
    directory: PathBuf,
    nodes: Vec<String>,
    spawner: Spawner,
    limiter: CreationLimiter,
    /// `None` if polling limits memory.
    cgroups: Option<Cgroups>,
    table: Mutex<Table>,
    monitor: Mutex<Monitor>,
}

#[derive(Default)]
struct Table {
    /// Looked up by key only.
    running: HashMap<SandboxId, RunningSandbox>,
    /// Oldest first; at most `logs_kept`.
    ended: VecDeque<EndedSandbox>,
    /// A sandbox has ended since the monitor's last pass.
    has_ended: bool,
}

/// A sandbox of which only the output is left.
struct EndedSandbox {
    sandbox: SandboxId,
    function: Arc<str>,
    log: Arc<Log>,
    /// The exit status or signal.
    cause: String,
}

/// A sandbox with a process.
struct RunningSandbox {
    function: Arc<str>,
    /// Cancelled to end it.
    stop: CancellationToken,
    /// Cancelled by its supervisor when nothing is left of it.
    gone: CancellationToken,
    log: Arc<Log>,
    monitored: MonitoredSandbox,
}

impl Process {
    /// Prepares the parent of the working directories, of which an earlier worker's are removed, and the thread that
    /// starts processes. Must be called within a tokio runtime.
    pub(crate) fn prepare(
        config: ProcessConfig,
        address: IpAddr,
        data_dir: &Path,
        nodes: &[NodeSpec],
    ) -> io::Result<Self> {
        let directory = std::path::absolute(data_dir.join("sandboxes"))?;
        // A worker that was killed could not remove them.
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&directory)?;
        // Set explicitly, because the umask may forbid it: sandboxes of another user must pass, but not list the
        // others.
        std::fs::set_permissions(&directory, Permissions::from_mode(0o711))?;
        if let Some(user) = config.user {
            user.try_in(&directory)?;
        }
        // A process that loses its parent in a sandbox becomes a child of this process, where the monitor finds and
        // ends it. Recorded first: any further child that no start accounts for has been adopted.
        children::record_foreign();
        prctl::set_child_subreaper(true)?;
        let (interval, cgroups) = (config.monitor_interval, find_cgroups(&config)?);
        // Beside this program, where builds and installations have both.
        let default_function = || std::env::current_exe().unwrap_or_default().with_file_name("trace-function");
        let shared = Arc::new(Shared {
            function: config.function.clone().unwrap_or_else(default_function),
            address,
            ports: Ports::open(address, &data_dir.join("sandbox-ports"))?,
            directory,
            nodes: nodes.iter().map(|node| node.name.to_string()).collect(),
            spawner: Spawner::start()?,
            // Shared, because one function whose program never listens would hold all permits otherwise.
            limiter: CreationLimiter::shared(config.parallel_starts),
            cgroups,
            table: Mutex::default(),
            monitor: Mutex::default(),
            config,
        });
        // Weak, because dropping the runtime is what ends the leftover processes.
        tokio::spawn(monitor::run(Arc::downgrade(&shared), interval));
        Ok(Self(shared))
    }
}

/// The place for control groups, if they are to limit memory. Logs which mechanism limits it.
fn find_cgroups(config: &ProcessConfig) -> io::Result<Option<Cgroups>> {
    let found = match config.memory_control {
        _ if !config.limit_memory => return Ok(None),
        MemoryControl::Watch => None,
        MemoryControl::Cgroup => Some(Cgroups::find()?),
        MemoryControl::Auto => Cgroups::find().inspect_err(|error| info!(cause = %error, "no control groups")).ok(),
    };
    match &found {
        Some(groups) => info!(?groups, "memory is limited by a control group for each sandbox"),
        None => info!(
            interval = ?config.monitor_interval,
            "memory is limited by RLIMIT_DATA for each process and by polling the memory of each sandbox"
        ),
    }
    Ok(found)
}

impl Runtime for Process {
    fn create(&self, request: CreationRequest) -> Task<Result<CreatedSandbox, CreationFailure>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { start::create(shared, request).await })
    }

    fn delete(&self, sandbox: SandboxId) -> Task<()> {
        let gone = self.0.lock().running.get(&sandbox).map(|running| {
            running.stop.cancel();
            running.gone.clone()
        });
        Box::pin(async move {
            if let Some(gone) = gone {
                gone.cancelled().await;
            }
        })
    }

    fn grace(&self) -> Duration {
        self.0.config.grace
    }

    fn output(&self, sandbox: SandboxId) -> Option<Output> {
        let table = self.0.lock();
        let ended = || table.ended.iter().find(|ended| ended.sandbox == sandbox).map(EndedSandbox::output);
        table.running.get(&sandbox).map(|running| running.output(sandbox)).or_else(ended)
    }

    fn outputs(&self, function: &str) -> Vec<Output> {
        let table = self.0.lock();
        let mut running: Vec<_> = table.running.iter().filter(|(_, running)| *running.function == *function).collect();
        running.sort_unstable_by_key(|(sandbox, _)| **sandbox);
        let ended = table.ended.iter().filter(|ended| *ended.function == *function).map(EndedSandbox::output);
        ended.chain(running.into_iter().map(|(sandbox, running)| running.output(*sandbox))).collect()
    }
}

impl Shared {
    fn add_running(&self, sandbox: SandboxId, running: RunningSandbox) {
        self.lock().running.insert(sandbox, running);
    }

    /// Removes a sandbox of which nothing is left; keeps its output for a while.
    fn remove_ended(&self, sandbox: SandboxId, cause: &str) {
        let mut table = self.lock();
        let Some(running) = table.running.remove(&sandbox) else { return };
        table.has_ended = true;
        // A creation may start its program several times; only the output of the last one is kept.
        table.ended.retain(|ended| ended.sandbox != sandbox);
        let (function, log, cause) = (running.function, running.log, cause.to_owned());
        table.ended.push_back(EndedSandbox { sandbox, function, log, cause });
        while table.ended.len() > self.config.logs_kept {
            table.ended.pop_front();
        }
    }

    /// One pass of the monitor.
    fn monitor(&self) {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        // Locked only for the copy: a pass reads all of /proc, and creations need the table meanwhile.
        let (monitored, has_ended) = {
            let mut table = self.lock();
            let monitored: Vec<_> = table.running.values().map(|running| running.monitored.clone()).collect();
            (monitored, std::mem::take(&mut table.has_ended))
        };
        if !(monitored.is_empty() && !has_ended && monitor.is_idle()) {
            monitor.pass(&monitored, has_ended);
        }
    }

    /// Every change leaves the table consistent, so a panic of another holder does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningSandbox {
    fn output(&self, sandbox: SandboxId) -> Output {
        Output::new(sandbox, &self.log, None)
    }
}

impl EndedSandbox {
    fn output(&self) -> Output {
        Output::new(self.sandbox, &self.log, Some(self.cause.clone()))
    }
}

impl Output {
    fn new(sandbox: SandboxId, log: &Log, ended: Option<String>) -> Self {
        let (text, dropped_bytes) = log.text();
        Self { sandbox, ended, dropped_bytes, text }
    }
}

impl Drop for Shared {
    /// Ends the leftover processes of the last sandboxes: no later pass of the monitor will.
    fn drop(&mut self) {
        self.monitor.get_mut().unwrap_or_else(PoisonError::into_inner).finish();
    }
}
