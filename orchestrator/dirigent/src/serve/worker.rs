//! `worker`: the component that creates and ends sandboxes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use service::{BindError, Network, OsNetwork};
use worker::{Addresses, Config, Handle, RuntimeKind, SandboxAddress, SandboxUser, Service, StartError};

use super::{
    DaemonOptions, check_runtime,
    data_directory::{DataDirectory, Others},
    port_options::PortOptions,
    set,
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

    /// Image that may be run besides the built-in function, or a prefix of images that ends in `:` or `/`, for example
    /// file:/srv/functions/; with the process runtime; may be repeated
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

impl Arguments {
    /// # Errors
    /// If an option does not apply to the runtime.
    fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        set(&mut config.name, self.name.as_ref());
        set(&mut config.runtime, self.runtime.as_ref());
        check_runtime("--nodes", self.nodes.is_some(), config.runtime, "hollow")?;
        check_runtime("--allow-image", !self.allow_image.is_empty(), config.runtime, "process")?;
        check_runtime("--sandbox-user", self.sandbox_user.is_some(), config.runtime, "process")?;
        check_runtime("--sandbox-address", self.sandbox_address.is_some(), config.runtime, "process")?;
        set(&mut config.hollow.nodes, self.nodes.as_ref());
        config.process.images.extend_from_slice(&self.allow_image);
        config.process.user = self.sandbox_user.or(config.process.user);
        set(&mut config.process.address, self.sandbox_address.as_ref());
        set(&mut config.admin, self.admin.as_ref());
        set(&mut config.data_dir, self.data_dir.as_ref());
        config.token_file = self.token_file.clone().or(config.token_file.take());
        if !self.control_plane.is_empty() {
            config.control_planes.clone_from(&self.control_plane);
        }
        Ok(())
    }
}

/// Runs a worker until a signal ends it.
pub(crate) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<()> {
    let Some(mut config) = arguments.daemon.load(|config| arguments.apply(config))? else { return Ok(()) };
    config.token_file = config.token_file.or_else(|| token::cluster_token(&config.control_planes));
    super::run(config.threads, log_format, async |process| {
        let directory = open(&config.data_dir, &config.name)?;
        let start = start(config, Arc::new(OsNetwork), PortOptions::Daemon, &directory);
        super::run_until(start, "worker", process.shutdown).await
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

/// Starts a worker and announces its ports in `directory`, which is that of its configuration.
///
/// # Errors
/// If its address cannot be bound, its runtime not started, or the ports file not written.
pub(super) async fn start(
    config: Config,
    network: Arc<dyn Network>,
    options: PortOptions,
    directory: &DataDirectory,
) -> anyhow::Result<Handle> {
    let handle = Service::start(config, network).await.map_err(|error| {
        let key = if let StartError::Bind(BindError { key, .. }) = error { Some(key) } else { None };
        options.explain("worker", error, key)
    })?;
    let Addresses { name, admin } = handle.addresses();
    directory.announce(&format!("worker {name}"), &[("admin", *admin)].into())?;
    Ok(handle)
}
