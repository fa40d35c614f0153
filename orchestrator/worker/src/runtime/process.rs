//! The process runtime: a sandbox is a child process with a port of its own. Needs no privilege.
//!
//! Enforced: memory, through `RLIMIT_DATA` for each process and by a control group, or by watching, for all of a sandbox;
//! its own process group and working directory; it dies with the worker; what it started ends soon after it.
//! Not enforced: CPU (that takes a cgroup), what else of the machine it may see, memory of files that no process has
//! mapped, and the end of what a sandbox itself started when the worker is killed: the kernel ends only the worker's own
//! children.

mod cgroup;
mod children;
mod keeper;
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
mod system;

use std::{
    collections::{HashMap, VecDeque},
    fs::Permissions,
    io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{NodeSpec, SandboxId};
use nix::sys::prctl;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::{
    cgroup::Cgroups,
    log::Log,
    monitor::{Monitor, Watched},
    port::Ports,
    spawner::Spawner,
};
use super::{Failure, Made, Order, Output, Runtime, Task};
use crate::{
    config::{MemoryControl, ProcessConfig},
    starts::Starts,
};

/// Sandboxes as child processes. Clones share them.
#[derive(Clone)]
pub(crate) struct Process(Arc<Shared>);

struct Shared {
    config: ProcessConfig,
    /// The program of `builtin:function`.
    function: PathBuf,
    /// Where sandboxes take connections.
    address: IpAddr,
    /// On which ports there.
    ports: Ports,
    /// Folder of the working directories.
    directory: PathBuf,
    nodes: Vec<String>,
    spawner: Spawner,
    starts: Starts,
    /// Where control groups are made, when these limit memory.
    cgroups: Option<Cgroups>,
    table: Mutex<Table>,
    monitor: Mutex<Monitor>,
}

#[derive(Default)]
struct Table {
    /// Looked up by key only.
    held: HashMap<SandboxId, Held>,
    /// Ended sandboxes with their output, oldest first; at most `logs_kept`.
    ended: VecDeque<Ended>,
    /// A sandbox has ended since the monitor's last pass.
    has_ended: bool,
}

/// A sandbox that is no more.
struct Ended {
    sandbox: SandboxId,
    function: Arc<str>,
    log: Arc<Log>,
    how: String,
}

/// A sandbox with a process.
struct Held {
    function: Arc<str>,
    /// Tells its keeper to end it.
    stop: CancellationToken,
    /// Set by its keeper when nothing is left of it.
    gone: CancellationToken,
    log: Arc<Log>,
    watched: Watched,
}

impl Process {
    /// Prepares the folder of working directories and the thread that starts processes. What an earlier worker left
    /// in the folder is removed. Must be called within a tokio runtime.
    pub(crate) fn prepare(
        config: ProcessConfig,
        address: IpAddr,
        data_dir: &Path,
        nodes: &[NodeSpec],
    ) -> io::Result<Self> {
        let directory = std::path::absolute(data_dir.join("sandboxes"))?;
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&directory)?;
        // Whatever the umask is: sandboxes may run as another user, and nobody lists those of others.
        std::fs::set_permissions(&directory, Permissions::from_mode(0o711))?;
        if let Some(user) = config.user {
            user.try_in(&directory)?;
        }
        // What loses its parent in a sandbox becomes a child of this process, where it is found and ended.
        children::note_foreign();
        prctl::set_child_subreaper(true)?;
        let (interval, cgroups) = (config.monitor_interval, find_cgroups(&config)?);
        let beside = || std::env::current_exe().unwrap_or_default().with_file_name("trace-function");
        let shared = Arc::new(Shared {
            function: config.function.clone().unwrap_or_else(beside),
            address,
            ports: Ports::open(address, &data_dir.join("sandbox-ports"))?,
            directory,
            nodes: nodes.iter().map(|node| node.name.to_string()).collect(),
            spawner: Spawner::start()?,
            starts: Starts::shared(config.parallel_starts),
            cgroups,
            table: Mutex::default(),
            monitor: Mutex::default(),
            config,
        });
        tokio::spawn(monitor::run(Arc::downgrade(&shared), interval));
        Ok(Self(shared))
    }
}

/// Where control groups can be made, if these are to limit memory; says who does.
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
            "memory is limited by RLIMIT_DATA for each process and by watching what a sandbox holds"
        ),
    }
    Ok(found)
}

impl Runtime for Process {
    fn create(&self, order: Order) -> Task<Result<Made, Failure>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { start::start(shared, order).await })
    }

    fn delete(&self, sandbox: SandboxId) -> Task<()> {
        let held = self.0.lock().held.get(&sandbox).map(|held| {
            held.stop.cancel();
            held.gone.clone()
        });
        Box::pin(async move {
            if let Some(gone) = held {
                gone.cancelled().await;
            }
        })
    }

    fn output(&self, sandbox: SandboxId) -> Option<Output> {
        let table = self.0.lock();
        let ended = || table.ended.iter().find(|ended| ended.sandbox == sandbox).map(Ended::output);
        table.held.get(&sandbox).map(|held| held.output(sandbox)).or_else(ended)
    }

    fn outputs(&self, function: &str) -> Vec<Output> {
        let table = self.0.lock();
        let mut held: Vec<_> = table.held.iter().filter(|(_, held)| *held.function == *function).collect();
        held.sort_unstable_by_key(|(sandbox, _)| **sandbox);
        let ended = table.ended.iter().filter(|ended| *ended.function == *function).map(Ended::output);
        ended.chain(held.into_iter().map(|(sandbox, held)| held.output(*sandbox))).collect()
    }
}

impl Shared {
    fn hold(&self, sandbox: SandboxId, held: Held) {
        self.lock().held.insert(sandbox, held);
    }

    /// Forgets a sandbox that is no more; keeps its output for a while.
    fn forget(&self, sandbox: SandboxId, how: &str) {
        let mut table = self.lock();
        let Some(held) = table.held.remove(&sandbox) else { return };
        table.has_ended = true;
        // Of several attempts to start it the last one counts.
        table.ended.retain(|ended| ended.sandbox != sandbox);
        table.ended.push_back(Ended { sandbox, function: held.function, log: held.log, how: how.to_owned() });
        while table.ended.len() > self.config.logs_kept {
            table.ended.pop_front();
        }
    }

    /// One pass of the monitor.
    fn monitor(&self) {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let (watched, has_ended) = {
            let mut table = self.lock();
            let watched: Vec<Watched> = table.held.values().map(|held| held.watched.clone()).collect();
            (watched, std::mem::take(&mut table.has_ended))
        };
        if !(watched.is_empty() && !has_ended && monitor.is_idle()) {
            monitor.pass(&watched, has_ended);
        }
    }

    /// Every change leaves the table whole, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn output(&self, sandbox: SandboxId) -> Output {
        Output::of(sandbox, &self.log, None)
    }
}

impl Ended {
    fn output(&self) -> Output {
        Output::of(self.sandbox, &self.log, Some(self.how.clone()))
    }
}

impl Output {
    fn of(sandbox: SandboxId, log: &Log, ended: Option<String>) -> Self {
        let (text, dropped_bytes) = log.text();
        Self { sandbox, ended, dropped_bytes, text }
    }
}

impl Drop for Shared {
    /// Nobody else ends what the last sandboxes left.
    fn drop(&mut self) {
        self.monitor.get_mut().unwrap_or_else(PoisonError::into_inner).finish();
    }
}
