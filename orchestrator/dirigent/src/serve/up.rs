//! `up`: a whole cluster in one process on loopback, from the same code as the separate daemons.

use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ::worker::{RuntimeKind, SandboxUser};
use anyhow::{Context, anyhow};
use clap::Args;
use service::{Handle, Network, OsNetwork};
use terminal::UsageError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    control_plane,
    data_directory::{DataDirectory, Others, Ports},
    data_plane,
    port_options::PortOptions,
    worker,
};
use crate::logging::LogFormat;

const EXAMPLES: &str = "\
Examples:
  dirigent up --workers 2 --runtime process --data-dir cluster
  dirigent up --workers 1 --runtime hollow --data-dir cluster --http-port 0 --invoke-port 0";

/// One process is one machine: more workers than this are hollow nodes of one worker.
const MAX_WORKERS: u16 = 64;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Number of workers
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = parse_workers)]
    workers: u16,

    #[arg(long, default_value_t, help = super::runtime_help())]
    runtime: RuntimeKind,

    /// Image that may be run besides the built-in function, or a prefix of images that ends in `:` or `/`, for example
    /// file:/srv/functions/; with the process runtime; may be repeated
    #[arg(long, value_name = "IMAGE", value_parser = super::parse_allowed)]
    allow_image: Vec<String>,

    /// As whom sandboxes run, with the process runtime: the number of a user, or of a user and a group; not given, as this
    /// process. Programs that run as this user can read the tokens of operators and of the cluster
    #[arg(long, value_name = "UID[:GID]")]
    sandbox_user: Option<SandboxUser>,

    /// Directory of the components' data, one folder each, and of ports.json; the token of operators is in its folder
    /// control-plane
    #[arg(long, default_value = "dirigent-data", value_name = "DIR")]
    data_dir: PathBuf,

    /// Let everybody who reaches the ports register functions, and join as a data plane or worker: for experiments
    #[arg(long)]
    no_auth: bool,

    /// Serve the form interface of existing load generators too, which asks for no token; the container images that
    /// they name are taken as builtin:function
    #[arg(long)]
    form: bool,

    /// Port for data planes and workers; 0 takes any free one, here and below
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    stream_port: u16,

    /// Port for operators
    #[arg(long, default_value_t = 9091, value_name = "PORT")]
    http_port: u16,

    /// Port for invocations
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    invoke_port: u16,

    /// Port for the data plane's health and metrics
    #[arg(long, default_value_t = 8085, value_name = "PORT")]
    admin_port: u16,

    /// Port for the first worker's health and metrics; the next workers take the next ports
    #[arg(long, default_value_t = 10015, value_name = "PORT")]
    worker_port: u16,
}

fn parse_workers(text: &str) -> Result<u16, String> {
    let workers = text.parse().ok().filter(|workers| (1..=MAX_WORKERS).contains(workers));
    workers.ok_or_else(|| format!("expected a whole number, 1 to {MAX_WORKERS}"))
}

/// Runs a cluster until a signal ends it.
pub(crate) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<()> {
    let given = !arguments.allow_image.is_empty();
    super::check_runtime("--allow-image", given, arguments.runtime, "process")?;
    super::check_runtime("--sandbox-user", arguments.sandbox_user.is_some(), arguments.runtime, "process")?;
    // Before anything is started or touched.
    nth_port(arguments.worker_port, arguments.workers - 1).map_err(UsageError::of)?;
    super::run(super::HALF_OF_THE_CORES, log_format, async |process| {
        let directory = DataDirectory::open(&arguments.data_dir, "up", Others::PassThrough)?;
        let directories = Directories::open(&arguments.data_dir, arguments.workers)?;
        let mut cluster = Cluster::default();
        let started = match cluster.start(&arguments, process.descriptors, &directories).await {
            Ok(ports) => directory.announce("cluster", &ports),
            Err(error) => Err(error),
        };
        if started.is_err() {
            // Components that have started may have sandboxes already.
            process.shutdown.cancel();
        }
        let stopped = cluster.run(process.shutdown).await;
        started.and(stopped)
    })
}

/// The data directories of the components, all of them locked.
struct Directories {
    control_plane: DataDirectory,
    data_plane: DataDirectory,
    workers: Vec<DataDirectory>,
}

impl Directories {
    /// Locks those below `data_dir`, before anything is done in one of them: where another is in use, there is no cluster.
    fn open(data_dir: &Path, workers: u16) -> anyhow::Result<Self> {
        let worker = |index| {
            let name = worker_name(index);
            worker::open(&data_dir.join(&name), &name)
        };
        Ok(Self {
            control_plane: control_plane::open(&data_dir.join(CONTROL_PLANE))?,
            data_plane: data_plane::open(&data_dir.join(DATA_PLANE))?,
            workers: (0..workers).map(worker).collect::<Result<_, _>>()?,
        })
    }
}

/// Folders of the data directory.
const CONTROL_PLANE: &str = "control-plane";
const DATA_PLANE: &str = "data-plane";

/// The name of the `index`th worker, and of its folder.
fn worker_name(index: u16) -> String {
    format!("worker-{}", u32::from(index) + 1)
}

/// The order in which components end: invocations finish while their sandboxes still run, and sandboxes end while the
/// control plane still receives their reports.
#[derive(Clone, Copy)]
enum Stage {
    Invocations,
    Sandboxes,
    Decisions,
}

const STAGES: [Stage; 3] = [Stage::Invocations, Stage::Sandboxes, Stage::Decisions];

/// The components that have started.
#[derive(Default)]
struct Cluster {
    components: JoinSet<(Stage, anyhow::Result<()>)>,
    /// Components of each stage that have not ended.
    running: [usize; STAGES.len()],
    /// Shuts down the components of each stage.
    shutdowns: [CancellationToken; STAGES.len()],
}

impl Cluster {
    /// Starts every component, and returns the ports of control plane and data plane.
    async fn start(
        &mut self,
        arguments: &Arguments,
        descriptors: usize,
        directories: &Directories,
    ) -> anyhow::Result<Ports> {
        let network: Arc<dyn Network> = Arc::new(OsNetwork);
        let config = control_plane_config(arguments);
        let locked = &directories.control_plane;
        let handle = control_plane::start(config, network.clone(), PortOptions::Up, locked).await?;
        let ::control_plane::Addresses { stream, http } = *handle.addresses();
        self.add(Stage::Decisions, "control plane", handle);

        let mut config = data_plane_config(arguments, stream);
        // Here the sandboxes' ends of the connections may be in this process too.
        data_plane::limit_descriptors(&mut config, descriptors / 2);
        let locked = &directories.data_plane;
        let handle = data_plane::start(config, network.clone(), PortOptions::Up, locked).await?;
        let ::data_plane::Addresses { invoke, admin } = *handle.addresses();
        self.add(Stage::Invocations, "data plane", handle);

        for (index, locked) in (0..arguments.workers).zip(&directories.workers) {
            let config = worker_config(arguments, stream, index)?;
            let handle = worker::start(config, network.clone(), PortOptions::Up, locked).await?;
            self.add(Stage::Sandboxes, "worker", handle);
        }
        Ok([("stream", stream), ("http", http), ("invoke", invoke), ("admin", admin)].into())
    }

    /// Adds a component. Its errors begin with `name`.
    fn add<A, E>(&mut self, stage: Stage, name: &'static str, handle: Handle<A, E>)
    where
        A: Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        self.running[stage as usize] += 1;
        let shutdown = self.shutdowns[stage as usize].clone();
        self.components.spawn(async move { (stage, handle.run_until(shutdown).await.context(name)) });
    }

    /// Runs every component until `shutdown`, or until one of them ends by itself, which ends the others too.
    async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut first_failure = None;
        let mut is_ending = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !is_ending => {}
                joined = self.components.join_next() => {
                    let Some(joined) = joined else { break };
                    let (stage, outcome) = joined.context("a component panicked")?;
                    self.running[stage as usize] -= 1;
                    let outcome =
                        if is_ending { outcome } else { outcome.and(Err(anyhow!("a component ended by itself"))) };
                    first_failure = first_failure.or(outcome.err());
                }
            }
            is_ending = true;
            for stage in STAGES {
                self.shutdowns[stage as usize].cancel();
                if self.running[stage as usize] > 0 {
                    break;
                }
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
}

fn control_plane_config(arguments: &Arguments) -> ::control_plane::Config {
    ::control_plane::Config {
        stream: loopback(arguments.stream_port),
        http: loopback(arguments.http_port),
        data_dir: arguments.data_dir.join(CONTROL_PLANE),
        auth: !arguments.no_auth,
        form: arguments.form,
        ..::control_plane::Config::default()
    }
}

fn data_plane_config(arguments: &Arguments, stream: SocketAddr) -> ::data_plane::Config {
    ::data_plane::Config {
        name: DATA_PLANE.to_owned(),
        control_planes: vec![stream.to_string()],
        invoke: loopback(arguments.invoke_port),
        admin: loopback(arguments.admin_port),
        data_dir: arguments.data_dir.join(DATA_PLANE),
        token_file: token_file(arguments),
        ..::data_plane::Config::default()
    }
}

fn worker_config(arguments: &Arguments, stream: SocketAddr, index: u16) -> anyhow::Result<::worker::Config> {
    let name = worker_name(index);
    let mut process = ::worker::ProcessConfig { user: arguments.sandbox_user, ..Default::default() };
    process.images.extend(arguments.allow_image.iter().cloned());
    Ok(::worker::Config {
        process,
        control_planes: vec![stream.to_string()],
        runtime: arguments.runtime,
        admin: loopback(nth_port(arguments.worker_port, index)?),
        data_dir: arguments.data_dir.join(&name),
        token_file: token_file(arguments),
        name,
        ..::worker::Config::default()
    })
}

/// The file of the cluster's token; `None` if the control plane requires none.
fn token_file(arguments: &Arguments) -> Option<PathBuf> {
    (!arguments.no_auth).then(|| arguments.data_dir.join(CONTROL_PLANE).join(api::CLUSTER_TOKEN_FILE))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The port of the `index`th worker: 0 stays 0.
fn nth_port(first: u16, index: u16) -> anyhow::Result<u16> {
    if first == 0 {
        return Ok(0);
    }
    let expected =
        || format!("--worker-port: {first} leaves no ports up to 65535 for {} workers", u32::from(index) + 1);
    first.checked_add(index).with_context(expected)
}
