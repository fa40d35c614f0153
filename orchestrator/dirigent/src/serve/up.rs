//! `up`: a whole cluster in one process on loopback, from the same code as the separate daemons.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ::worker::{RuntimeKind, SandboxUser};
use anyhow::{Context, anyhow};
use clap::Args;
use service::{Network, OsNetwork};
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

    /// Image that may be run besides the built-in function, or what images begin with and `:` or `/`, with the process
    /// runtime; may be repeated
    #[arg(long, value_name = "IMAGE", value_parser = super::parse_allowed)]
    allow_image: Vec<String>,

    /// As whom sandboxes run, with the process runtime: the number of a user, or of a user and a group; not given, as this
    /// process. Programs that run as this user can read the tokens of operators and of the cluster
    #[arg(long, value_name = "UID[:GID]")]
    sandbox_user: Option<SandboxUser>,

    /// Directory of what the parts keep, one folder each, and of ports.json; the token that
    /// operators show is in its folder control-plane
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
        let cluster = build(&arguments, process.descriptors, Arc::new(OsNetwork)).await?;
        directory.announce("cluster", &cluster.ports)?;
        cluster.run(process.shutdown).await
    })
}

/// The data directories of the parts, all of them locked.
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

/// The parts, bound and not yet serving.
struct Cluster {
    control_plane: ::control_plane::Built,
    data_plane: ::data_plane::Built,
    workers: Vec<::worker::Built>,
    ports: Ports,
    directories: Directories,
}

async fn build(arguments: &Arguments, descriptors: usize, network: Arc<dyn Network>) -> anyhow::Result<Cluster> {
    let directories = Directories::open(&arguments.data_dir, arguments.workers)?;
    let folder = |name: &str| arguments.data_dir.join(name);
    let config = ::control_plane::Config {
        stream: loopback(arguments.stream_port),
        http: loopback(arguments.http_port),
        data_dir: folder(CONTROL_PLANE),
        auth: !arguments.no_auth,
        form: arguments.form,
        ..::control_plane::Config::default()
    };
    let locked = &directories.control_plane;
    let control_plane = control_plane::build(config, network.clone(), PortOptions::Up, locked).await?;
    let token_file = (!arguments.no_auth).then(|| folder(CONTROL_PLANE).join(api::CLUSTER_TOKEN_FILE));
    let leader = vec![control_plane.stream_address().to_string()];

    let mut config = ::data_plane::Config {
        name: DATA_PLANE.to_owned(),
        control_planes: leader.clone(),
        invoke: loopback(arguments.invoke_port),
        admin: loopback(arguments.admin_port),
        data_dir: folder(DATA_PLANE),
        token_file: token_file.clone(),
        ..::data_plane::Config::default()
    };
    // Here the sandboxes' ends of the connections may be in this process too.
    data_plane::limit_descriptors(&mut config, descriptors / 2);
    let locked = &directories.data_plane;
    let data_plane = data_plane::build(config, network.clone(), PortOptions::Up, locked).await?;

    let mut workers = Vec::new();
    for (index, locked) in (0..arguments.workers).zip(&directories.workers) {
        let name = worker_name(index);
        let mut process = ::worker::ProcessConfig { user: arguments.sandbox_user, ..Default::default() };
        process.images.extend(arguments.allow_image.iter().cloned());
        let config = ::worker::Config {
            process,
            control_planes: leader.clone(),
            runtime: arguments.runtime,
            admin: loopback(nth_port(arguments.worker_port, index)?),
            data_dir: folder(&name),
            token_file: token_file.clone(),
            name,
            ..::worker::Config::default()
        };
        workers.push(worker::build(config, network.clone(), PortOptions::Up, locked).await?);
    }
    let ports = [
        ("stream", control_plane.stream_address()),
        ("http", control_plane.http_address()),
        ("invoke", data_plane.invoke_address()),
        ("admin", data_plane.admin_address()),
    ];
    Ok(Cluster { control_plane, data_plane, workers, ports: ports.into(), directories })
}

/// In which order the parts end: invocations finish while their sandboxes still run, and sandboxes end while the
/// control plane still hears of it.
#[derive(Clone, Copy)]
enum Stage {
    Invocations,
    Sandboxes,
    Decisions,
}

const STAGES: [Stage; 3] = [Stage::Invocations, Stage::Sandboxes, Stage::Decisions];

impl Cluster {
    /// Runs every part until `shutdown`, or until one of them ends by itself, which ends the others too.
    async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let _directories = self.directories;
        let ends = STAGES.map(|_| CancellationToken::new());
        let mut running = [1, self.workers.len(), 1];
        let mut parts = JoinSet::new();
        let end = ends[Stage::Decisions as usize].clone();
        parts.spawn(async move { (Stage::Decisions, self.control_plane.run(end).await.context("control plane")) });
        let end = ends[Stage::Invocations as usize].clone();
        parts.spawn(async move { (Stage::Invocations, self.data_plane.run(end).await.context("data plane")) });
        for built in self.workers {
            let end = ends[Stage::Sandboxes as usize].clone();
            parts.spawn(async move { (Stage::Sandboxes, built.run(end).await.context("worker")) });
        }
        let mut first_failure = None;
        let mut ending = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !ending => {}
                joined = parts.join_next() => {
                    let Some(joined) = joined else { break };
                    let (stage, outcome) = joined.context("a part panicked")?;
                    running[stage as usize] -= 1;
                    let outcome = if ending { outcome } else { outcome.and(Err(anyhow!("a part ended by itself"))) };
                    first_failure = first_failure.or(outcome.err());
                }
            }
            ending = true;
            for stage in STAGES {
                ends[stage as usize].cancel();
                if running[stage as usize] > 0 {
                    break;
                }
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
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
