//! `control-plane`: the component that decides, with its command log in the data directory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use control_plane::{Addresses, Config, Handle, RedbStore, Service, StartError};
use service::{BindError, Network, OsNetwork};

use super::{
    DaemonOptions,
    data_directory::{DataDirectory, Others},
    port_options::PortOptions,
    set,
};
use crate::{logging::LogFormat, option_values};

#[derive(Debug, Args)]
#[command(after_help = "Example: dirigent control-plane --config control-plane.toml --data-dir state")]
pub(crate) struct Arguments {
    #[command(flatten)]
    daemon: DaemonOptions,

    /// Address for data planes and workers; port 0 takes any free one
    #[arg(long, value_parser = option_values::listen_address, value_name = "IP:PORT")]
    stream: Option<SocketAddr>,

    /// Address for operators, health checks and metrics
    #[arg(long, value_parser = option_values::listen_address, value_name = "IP:PORT")]
    http: Option<SocketAddr>,

    /// Directory of the command log and of ports.json
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Directory into which coldstarts.csv is written
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,

    /// Let everybody who reaches the ports register functions, and join as a data plane or worker: for experiments
    #[arg(long)]
    no_auth: bool,

    /// Serve the form interface of existing load generators too, which asks for no token; the container images that
    /// they name are taken as builtin:function
    #[arg(long)]
    form: bool,
}

impl Arguments {
    fn apply(&self, config: &mut Config) {
        set(&mut config.stream, self.stream.as_ref());
        set(&mut config.http, self.http.as_ref());
        set(&mut config.data_dir, self.data_dir.as_ref());
        config.record = self.record.clone().or(config.record.take());
        config.auth &= !self.no_auth;
        config.form |= self.form;
    }
}

/// Runs a control plane until a signal ends it.
pub(crate) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<()> {
    let config = arguments.daemon.load(|config| {
        arguments.apply(config);
        Ok(())
    })?;
    let Some(config) = config else { return Ok(()) };
    super::run(config.threads, log_format, async |process| {
        let directory = open(&config.data_dir)?;
        let start = start(config, Arc::new(OsNetwork), PortOptions::Daemon, &directory);
        super::run_until(start, "control plane", process.shutdown).await
    })
}

/// Locks the data directory of a control plane.
///
/// # Errors
/// As [`DataDirectory::open`].
pub(super) fn open(data_dir: &Path) -> anyhow::Result<DataDirectory> {
    DataDirectory::open(data_dir, "control-plane", Others::Nothing)
}

/// Starts a control plane and announces its ports in `directory`, which is that of its configuration.
///
/// # Errors
/// If its log cannot be opened, an address not bound, or the ports file not written.
pub(super) async fn start(
    config: Config,
    network: Arc<dyn Network>,
    options: PortOptions,
    directory: &DataDirectory,
) -> anyhow::Result<Handle> {
    let store = RedbStore::open(&config.data_dir)?;
    let handle = Service::start(config, network, Box::new(store)).await.map_err(|error| {
        let key = if let StartError::Bind(BindError { key, .. }) = error { Some(key) } else { None };
        options.explain("control plane", error, key)
    })?;
    let Addresses { stream, http } = *handle.addresses();
    directory.announce("control plane", &[("stream", stream), ("http", http)].into())?;
    Ok(handle)
}
