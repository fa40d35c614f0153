//! `control-plane`: the part that decides, with its command log in the data directory.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use control_plane::{BuildError, Built, Config, RedbStore};
use service::{Network, OsNetwork};
use terminal::UsageError;

use super::{
    DaemonOptions,
    data_directory::{DataDirectory, Others},
    port_options::PortOptions,
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

/// Runs a control plane until a signal ends it.
pub(crate) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<()> {
    let loaded = arguments.daemon.load::<Config>()?;
    let mut config = loaded.value.clone();
    config.stream = arguments.stream.unwrap_or(config.stream);
    config.http = arguments.http.unwrap_or(config.http);
    config.data_dir = arguments.data_dir.unwrap_or(config.data_dir);
    config.record = arguments.record.or(config.record);
    config.auth &= !arguments.no_auth;
    config.form |= arguments.form;
    config.check().map_err(|error| UsageError::of(loaded.complaint(error.key, &error.problem)))?;
    if arguments.daemon.printed(&config)? {
        return Ok(());
    }
    super::run(config.threads, log_format, async |process| {
        let directory = open(&config.data_dir)?;
        let built = build(config, Arc::new(OsNetwork), PortOptions::Daemon, &directory).await?;
        built.run(process.shutdown).await.context("control plane")
    })
}

/// Locks the data directory of a control plane.
///
/// # Errors
/// As [`DataDirectory::open`].
pub(super) fn open(data_dir: &Path) -> anyhow::Result<DataDirectory> {
    DataDirectory::open(data_dir, "control-plane", Others::Nothing)
}

/// Binds a control plane and announces its ports in `directory`, which is that of its configuration.
///
/// # Errors
/// When its log cannot be opened, an address not bound, or the ports file not written.
pub(super) async fn build(
    config: Config,
    network: Arc<dyn Network>,
    options: PortOptions,
    directory: &DataDirectory,
) -> anyhow::Result<Built> {
    let store = RedbStore::open(&config.data_dir)?;
    let built = control_plane::build(config, network, Box::new(store)).await;
    let built = built.map_err(|error| {
        let key = if let BuildError::Bind { key, .. } = error { Some(key) } else { None };
        options.explain("control plane", error, key)
    })?;
    let addresses = [("stream", built.stream_address()), ("http", built.http_address())];
    directory.announce("control plane", &addresses.into())?;
    Ok(built)
}
