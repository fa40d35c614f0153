//! The process runtime: a sandbox is a child process with a port of its own. Needs no privilege.
//!
//! Enforced: memory, through `RLIMIT_DATA`; its own process group and working directory; it dies with the worker.
//! Not enforced: CPU (that takes a cgroup), what else of the machine it may see, and the end of what a sandbox itself
//! started when the worker is killed: the kernel ends only the worker's own children.

mod keeper;
mod log;
mod port;
mod program;
mod spawner;
mod start;
mod system;

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{NodeSpec, SandboxId};
use tokio_util::sync::CancellationToken;

use self::{log::Log, spawner::Spawner};
use super::{Failure, Made, Order, Runtime, Task};
use crate::{config::ProcessConfig, starts::Starts};

/// Sandboxes as child processes. Clones share them.
#[derive(Clone)]
pub(crate) struct Process(Arc<Shared>);

struct Shared {
    config: ProcessConfig,
    /// The program of `builtin:function`.
    function: PathBuf,
    /// Folder of the working directories.
    directory: PathBuf,
    nodes: Vec<String>,
    spawner: Spawner,
    starts: Starts,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// Looked up by key only.
    held: HashMap<SandboxId, Held>,
    /// Output of ended sandboxes, oldest first; at most `logs_kept`.
    ended: VecDeque<(SandboxId, Arc<Log>)>,
}

/// A sandbox with a process.
struct Held {
    /// Tells its keeper to end it.
    stop: CancellationToken,
    /// Set by its keeper when nothing is left of it.
    gone: CancellationToken,
    log: Arc<Log>,
}

impl Process {
    /// Prepares the folder of working directories and the thread that starts processes. What an earlier worker left
    /// in the folder is removed.
    pub(crate) fn prepare(config: ProcessConfig, data_dir: &Path, nodes: &[NodeSpec]) -> io::Result<Self> {
        let directory = std::path::absolute(data_dir.join("sandboxes"))?;
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&directory)?;
        let beside = || std::env::current_exe().unwrap_or_default().with_file_name("trace-function");
        Ok(Self(Arc::new(Shared {
            function: config.function.clone().unwrap_or_else(beside),
            directory,
            nodes: nodes.iter().map(|node| node.name.to_string()).collect(),
            spawner: Spawner::start()?,
            starts: Starts::new(config.parallel_starts),
            table: Mutex::default(),
            config,
        })))
    }
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

    fn logs(&self, sandbox: SandboxId) -> Option<String> {
        let table = self.0.lock();
        let ended = || table.ended.iter().rev().find(|(id, _)| *id == sandbox).map(|(_, log)| log);
        table.held.get(&sandbox).map(|held| &held.log).or_else(ended).map(|log| log.text())
    }
}

impl Shared {
    fn hold(&self, sandbox: SandboxId, held: Held) {
        self.lock().held.insert(sandbox, held);
    }

    /// Forgets a sandbox that is no more; keeps its output for a while.
    fn forget(&self, sandbox: SandboxId) {
        let mut table = self.lock();
        let Some(held) = table.held.remove(&sandbox) else { return };
        table.ended.push_back((sandbox, held.log));
        while table.ended.len() > self.config.logs_kept {
            table.ended.pop_front();
        }
    }

    /// Every change leaves the table whole, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
