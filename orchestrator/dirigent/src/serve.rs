//! The subcommands that run components of a cluster, and what they share: configuration, runtime, data directory, and the
//! way from a started component to its end.

pub(crate) mod control_plane;
mod data_directory;
pub(crate) mod data_plane;
mod descriptors;
mod port_options;
mod signals;
pub(crate) mod up;
pub(crate) mod worker;

use std::{error::Error, io, path::PathBuf, thread};

use ::worker::RuntimeKind;
use anyhow::{Context, anyhow};
use clap::Args;
use service::{Config, Handle};
use terminal::{Exit, Reported, UsageError};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    configuration,
    logging::{self, LogFormat},
};

/// The options of every daemon that has a configuration file.
#[derive(Debug, Args)]
struct DaemonOptions {
    /// Configuration file; every key has a default, and flags override it
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    /// Print the effective configuration and exit
    #[arg(long)]
    print_config: bool,
}

/// The help of `--runtime`, with the name of every runtime.
fn runtime_help() -> String {
    let names: Vec<_> = RuntimeKind::all().map(|runtime| format!("`{runtime}`")).collect();
    format!("How sandboxes are made: {}", names.join(" or "))
}

/// Refuses an option that was given and that the runtime has no use for.
fn check_runtime(option: &str, is_given: bool, runtime: RuntimeKind, needed: &str) -> anyhow::Result<()> {
    if !is_given || runtime.name() == needed {
        return Ok(());
    }
    Err(UsageError::of(anyhow!("{option} applies with --runtime {needed} only; the runtime is {runtime}")))
}

/// An image, or what images begin with, that may be allowed.
fn parse_allowed(text: &str) -> Result<String, String> {
    if model::may_allow_images(text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected {}, or a prefix of such images that ends in `:` or `/`", model::PROCESS_IMAGES))
}

impl DaemonOptions {
    /// The effective configuration: the file's, changed by the options of the command line that `apply` knows. `None`
    /// when it was to be printed only.
    ///
    /// # Errors
    /// If the file or the result cannot be used. The error names file, line and key.
    fn load<C: Config>(&self, apply: impl FnOnce(&mut C) -> anyhow::Result<()>) -> anyhow::Result<Option<C>> {
        let mut loaded = configuration::load::<C>(self.config.as_deref()).map_err(UsageError::of)?;
        apply(&mut loaded.value)?;
        loaded.value.validate().map_err(|error| UsageError::of(loaded.complaint(error.key, &error.problem)))?;
        if self.print_config {
            let text = configuration::to_toml(&loaded.value).context("the configuration has no form in TOML")?;
            terminal::print(text)?;
            return Ok(None);
        }
        Ok(Some(loaded.value))
    }
}

/// Sets a key of the configuration if its option was given.
fn set<T: Clone>(key: &mut T, option: Option<&T>) {
    if let Some(value) = option {
        key.clone_from(value);
    }
}

/// Runs a component from its start until `shutdown`, which may come while it starts. Errors of a running component begin
/// with `name`.
async fn run_until<A, E>(
    start: impl Future<Output = anyhow::Result<Handle<A, E>>>,
    name: &'static str,
    shutdown: CancellationToken,
) -> anyhow::Result<()>
where
    E: Error + Send + Sync + 'static,
{
    let handle = tokio::select! {
        biased;
        started = start => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    handle.run_until(shutdown).await.context(name)
}

/// Stands for a number of threads.
const HALF_OF_THE_CORES: usize = 0;

/// Resources that a daemon gets from the process it runs in.
struct Process {
    /// Cancelled by the first SIGINT or SIGTERM.
    shutdown: CancellationToken,
    /// File descriptors it may use.
    descriptors: usize,
}

/// Runs `daemon` on the process's one runtime, of `threads` threads (0: half of the cores), until it is done.
fn run<F>(threads: usize, log_format: LogFormat, daemon: impl FnOnce(Process) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    logging::start(log_format);
    let outcome = run_logged(threads, daemon);
    // People find the last line better without the rest of a log line around it.
    outcome.map_err(|error| if log_format == LogFormat::Json { logged(error) } else { error })
}

/// Reports a failure in a log line, for a program that reads them. That the reader of standard output has gone is none.
fn logged(error: anyhow::Error) -> anyhow::Error {
    if Exit::of(&error) != Exit::Failed {
        return error;
    }
    let text = format!("{error:#}");
    let line: Vec<&str> = text.split_whitespace().collect();
    tracing::error!(cause = line.join(" "), "failed");
    Reported.into()
}

fn run_logged<F>(threads: usize, daemon: impl FnOnce(Process) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let descriptors = descriptors::raise()?;
    let runtime = runtime(threads).context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = signals::shutdown_token().context("listening for signals")?;
        Box::pin(daemon(Process { shutdown, descriptors })).await
    })
}

/// Ready sockets taken from the kernel at once. What is ready and not taken waits unseen behind the others: a data plane
/// with too much to do would not notice how late it is, and read responses last.
const SOCKETS_AT_ONCE: usize = 16 * 1024;

/// One thread runs everything where it waits: nothing is handed from thread to thread, which costs more in system calls
/// and switches than most of what is handed over.
fn runtime(threads: usize) -> io::Result<Runtime> {
    let half = || thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
    let mut builder = match if threads == HALF_OF_THE_CORES { half() } else { threads } {
        1 => Builder::new_current_thread(),
        several => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(several);
            builder
        }
    };
    builder.enable_all().max_io_events_per_tick(SOCKETS_AT_ONCE).build()
}
