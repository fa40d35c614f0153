//! `data-plane`: the component that carries invocations to sandboxes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use data_plane::{Addresses, Config, Handle, Service, StartError};
use service::{BindError, Network, OsNetwork};

use super::{
    DaemonOptions,
    data_directory::{DataDirectory, Others},
    port_options::PortOptions,
    set,
};
use crate::{client::token, logging::LogFormat, option_values};

#[derive(Debug, Args)]
#[command(after_help = "Example: dirigent data-plane --control-plane 10.0.0.1:9090 --invoke 0.0.0.0:8080")]
pub(crate) struct Arguments {
    #[command(flatten)]
    daemon: DaemonOptions,

    /// Its own name, stable over restarts
    #[arg(long)]
    name: Option<String>,

    /// Stream address of a control plane; may be repeated, the leader is found by trying
    #[arg(long, value_name = "HOST:PORT")]
    control_plane: Vec<String>,

    /// File with the cluster's token, a copy of `cluster-token` in the control plane's data directory. Not given, it is
    /// looked for in the data directories below the current one, and in the folder `control-plane` next to its own
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Address for invocations; port 0 takes any free one
    #[arg(long, value_parser = option_values::listen_address, value_name = "IP:PORT")]
    invoke: Option<SocketAddr>,

    /// Address for health, readiness and metrics
    #[arg(long, value_parser = option_values::listen_address, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,

    /// Directory of ports.json
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Arguments {
    fn apply(&self, config: &mut Config) {
        set(&mut config.name, self.name.as_ref());
        set(&mut config.invoke, self.invoke.as_ref());
        set(&mut config.admin, self.admin.as_ref());
        set(&mut config.data_dir, self.data_dir.as_ref());
        config.token_file = self.token_file.clone().or(config.token_file.take());
        if !self.control_plane.is_empty() {
            config.control_planes.clone_from(&self.control_plane);
        }
    }
}

/// Runs a data plane until a signal ends it.
pub(crate) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<()> {
    let config = arguments.daemon.load(|config| {
        arguments.apply(config);
        Ok(())
    })?;
    let Some(mut config) = config else { return Ok(()) };
    config.token_file = config.token_file.or_else(|| token::cluster_token(&config.control_planes));
    super::run(config.threads, log_format, async |process| {
        limit_descriptors(&mut config, process.descriptors);
        let directory = open(&config.data_dir)?;
        let start = start(config, Arc::new(OsNetwork), PortOptions::Daemon, &directory);
        super::run_until(start, "data plane", process.shutdown).await
    })
}

/// Tells the data plane how many file descriptors it has; a configured number counts when it is lower.
pub(super) fn limit_descriptors(config: &mut Config, available: usize) {
    let unset = config.limits.descriptors == Config::default().limits.descriptors;
    config.limits.descriptors = if unset { available } else { available.min(config.limits.descriptors) };
}

/// Locks the data directory of a data plane.
///
/// # Errors
/// As [`DataDirectory::open`].
pub(super) fn open(data_dir: &Path) -> anyhow::Result<DataDirectory> {
    DataDirectory::open(data_dir, "data-plane", Others::Nothing)
}

/// Starts a data plane and announces its ports in `directory`, which is that of its configuration.
///
/// # Errors
/// If an address cannot be bound, or the ports file not written.
pub(super) async fn start(
    config: Config,
    network: Arc<dyn Network>,
    options: PortOptions,
    directory: &DataDirectory,
) -> anyhow::Result<Handle> {
    let handle = Service::start(config, network).await.map_err(|error| {
        let key = if let StartError::Bind(BindError { key, .. }) = error { Some(key) } else { None };
        options.explain("data plane", error, key)
    })?;
    let Addresses { invoke, admin } = *handle.addresses();
    directory.announce("data plane", &[("invoke", invoke), ("admin", admin)].into())?;
    Ok(handle)
}
