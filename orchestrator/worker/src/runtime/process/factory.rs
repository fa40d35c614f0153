//! Builds the process runtime from a worker's configuration.

use std::{net::IpAddr, sync::Arc};

use tracing::warn;

use super::{Process, ProcessConfig, config};
use crate::{
    SandboxUser, machine,
    runtime::{BuildContext, BuildResult, RuntimeError, RuntimeFactory},
};

/// The factory of the table of runtimes.
pub(crate) const FACTORY: RuntimeFactory = RuntimeFactory {
    check: config::check,
    nodes: |config| vec![machine::node(config)],
    build: |context| Box::pin(build(context)),
};

async fn build(context: BuildContext) -> BuildResult {
    let BuildContext { config, nodes, .. } = context;
    let user_error = |error| RuntimeError::new("process.user (--sandbox-user)", error);
    config.process.user.map_or(Ok(()), SandboxUser::check).map_err(user_error)?;
    warn_of_readable_tokens(&config.process);
    let address = config.process.address.find().await;
    let address = address.map_err(|error| RuntimeError::new("process.address", error))?;
    warn_of_loopback(address, &config.control_planes);
    let process = Process::prepare(config.process, address, &config.data_dir, &nodes);
    let subject = || format!("process runtime, folder {}", config.data_dir.display());
    Ok(Arc::new(process.map_err(|error| RuntimeError::new(subject(), error))?))
}

/// Warns if programs other than the built-in function run as this process's user.
fn warn_of_readable_tokens(config: &ProcessConfig) {
    let allows_programs = config.images.iter().any(|image| !image.starts_with("builtin:"));
    if allows_programs && config.user.is_none() {
        warn!(
            images = ?config.images,
            "programs run as this user: they can read the tokens of this machine and register functions; process.user \
             (--sandbox-user) names another one"
        );
    }
}

/// Warns if data planes on other machines cannot connect to the sandboxes. Their own errors appear there, not in this
/// log.
fn warn_of_loopback(address: IpAddr, control_planes: &[String]) {
    if address.is_loopback() && !control_planes.iter().all(|control_plane| api::is_loopback(control_plane)) {
        warn!(%address, "data planes on other machines cannot connect to sandboxes here: set process.address (--sandbox-address) \
                         to an address or interface that they can reach");
    }
}
