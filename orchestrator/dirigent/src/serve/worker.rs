//! `worker`: the part that makes and ends sandboxes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use service::{Network, OsNetwork};
use terminal::UsageError;
use worker::{BuildError, Built, Config, RuntimeKind, SandboxAddress, SandboxUser};

use super::{
    DaemonOptions, check_runtime,
    data_directory::{DataDirectory, Others},
    port_options::PortOptions,
};
use crate::{client::token, logging::LogFormat, option_values};

#[derive(Debug, Args)]
#[command(after_help = "Example: dirigent worker --name node-1 --control-plane 10.0.0.1:9090 --runtime process")]
pub(crate) struct Arguments {
    #[command(flatten)]
    daemon: DaemonOptions,

    /// Its own name, unique in the cluster and stable over restarts
    #[arg(long)]
    name: Option<String>,

    /// Stream address of a control plane; may be repeated, the leader is found by trying
    #[arg(long, value_name = "HOST:PORT")]
    control_plane: Vec<String>,

    /// File with the cluster's token, a copy of `cluster-token` in the control plane's data directory. Not given, it is
    /// looked for in the data directories below the current one, and in the folder `control-plane` next to its own
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    #[arg(long, help = super::runtime_help())]
    runtime: Option<RuntimeKind>,

    /// Number of modelled nodes, with the hollow runtime
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,

    /// Image that may be run besides the built-in function, or what images begin with and `:` or `/`, with the process
    /// runtime; may be repeated
    #[arg(long, value_name = "IMAGE", value_parser = super::parse_allowed)]
    allow_image: Vec<String>,

    /// As whom sandboxes run, with the process runtime: the number of a user, or of a user and a group; not given, as this
    /// process. Programs that run as this user can read the tokens of operators and of the cluster
    #[arg(long, value_name = "UID[:GID]")]
    sandbox_user: Option<SandboxUser>,

    /// Address at which sandboxes accept connections, with the process runtime: an address of this machine, or the name of the
    /// interface that has it; data planes on other machines cannot connect to the default, 127.0.0.1
    #[arg(long, value_name = "IP|INTERFACE")]
    sandbox_address: Option<SandboxAddress>,

    /// Address for health, metrics and logs; port 0 takes any free one
    #[arg(long, value_parser = option_values::listen_address, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,

    /// Directory of ports.json and of its sandboxes' working directories
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs a worker until a signal ends it.
pub(crate) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<()> {
    let loaded = arguments.daemon.load::<Config>()?;
    let mut config = loaded.value.clone();
    config.name = arguments.name.unwrap_or(config.name);
    config.runtime = arguments.runtime.unwrap_or(config.runtime);
    let given = !arguments.allow_image.is_empty();
    check_runtime("--nodes", arguments.nodes.is_some(), config.runtime, "hollow")?;
    check_runtime("--allow-image", given, config.runtime, "process")?;
    check_runtime("--sandbox-user", arguments.sandbox_user.is_some(), config.runtime, "process")?;
    check_runtime("--sandbox-address", arguments.sandbox_address.is_some(), config.runtime, "process")?;
    config.hollow.nodes = arguments.nodes.unwrap_or(config.hollow.nodes);
    config.process.images.extend(arguments.allow_image);
    config.process.user = arguments.sandbox_user.or(config.process.user);
    config.process.address = arguments.sandbox_address.unwrap_or(config.process.address);
    config.admin = arguments.admin.unwrap_or(config.admin);
    config.data_dir = arguments.data_dir.unwrap_or(config.data_dir);
    config.token_file = arguments.token_file.or(config.token_file);
    if !arguments.control_plane.is_empty() {
        config.control_planes = arguments.control_plane;
    }
    config.check().map_err(|error| UsageError::of(loaded.complaint(error.key, &error.problem)))?;
    if arguments.daemon.printed(&config)? {
        return Ok(());
    }
    config.token_file = config.token_file.or_else(|| token::cluster_token(&config.control_planes));
    super::run(config.threads, log_format, async |process| {
        let directory = open(&config.data_dir, &config.name)?;
        let built = tokio::select! {
            biased;
            built = build(config, Arc::new(OsNetwork), PortOptions::Daemon, &directory) => built?,
            // The address of its sandboxes is waited for.
            () = process.shutdown.cancelled() => return Ok(()),
        };
        built.run(process.shutdown).await.context("worker")
    })
}

/// Locks the data directory of the worker of this name, which is empty where it takes one from its port: then it has none
/// yet.
///
/// # Errors
/// As [`DataDirectory::open`].
pub(super) fn open(data_dir: &Path, name: &str) -> anyhow::Result<DataDirectory> {
    let holder = if name.is_empty() { "worker".to_owned() } else { format!("worker {name}") };
    DataDirectory::open(data_dir, &holder, Others::PassThrough)
}

/// Binds a worker and announces its ports in `directory`, which is that of its configuration.
///
/// # Errors
/// When its address cannot be bound, its runtime not started, or the ports file not written.
pub(super) async fn build(
    config: Config,
    network: Arc<dyn Network>,
    options: PortOptions,
    directory: &DataDirectory,
) -> anyhow::Result<Built> {
    let built = worker::build(config, network).await.map_err(|error| {
        let key = if let BuildError::Admin { .. } = error { Some("admin") } else { None };
        options.explain("worker", error, key)
    })?;
    let role = format!("worker {}", built.name());
    directory.announce(&role, &[("admin", built.admin_address())].into())?;
    Ok(built)
}
