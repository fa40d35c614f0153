//! A worker from its configuration: built with its ports bound, then run until it is told to end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use api::{Listener, Network, TokenSource};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;

use crate::{
    Config, ConfigError, ProcessConfig, RuntimeKind, SandboxUser,
    admin::{self, Admin},
    machine,
    metrics::Metrics,
    owner::{Identity, Input, Owner},
    runtime::{Runtime, hollow::Hollow, process::Process},
    session::Session,
};

/// Batches read and not yet obeyed: a few, so that a busy owner slows the control plane down and not this memory.
const INPUTS: usize = 64;
/// Longest wait for the last reports to be sent when the worker ends.
const SHUTDOWN_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Added to the grace of the sandboxes for ending them all.
const END_MARGIN: Duration = Duration::from_secs(5);

/// A worker could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Its configuration is out of bounds.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The admin address is taken, or not of this machine.
    #[error("cannot listen on {address} (admin)")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The hollow runtime cannot listen.
    #[error("hollow runtime")]
    Hollow(#[from] hollow::BindError),
    /// Sandboxes may not run as that user.
    #[error("process.user (--sandbox-user)")]
    User(#[source] io::Error),
    /// There is no such address or interface on this machine.
    #[error("process.address")]
    Address(#[source] io::Error),
    /// The process runtime cannot use its folder or start its thread.
    #[error("process runtime, folder {}", directory.display())]
    Process {
        /// The data folder.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A running worker failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// Sandboxes did not end in time; they die with this process.
    #[error("sandboxes were still there {0:?} after they were told to end")]
    Sandboxes(Duration),
}

/// A worker with its ports bound; nothing is served yet.
pub struct Built {
    config: Config,
    network: Arc<dyn Network>,
    identity: Identity,
    door: Box<dyn Listener>,
    runtime: AnyRuntime,
}

enum AnyRuntime {
    Hollow(Hollow),
    Process(Process),
}

/// Checks `config` and binds the ports on `network`. Takes some seconds where the address of sandboxes is still missing.
///
/// # Errors
/// When the configuration is out of bounds, a port is taken, or the runtime's folder cannot be used.
pub async fn build(mut config: Config, network: Arc<dyn Network>) -> Result<Built, BuildError> {
    config.check()?;
    let bound = async {
        let listener = network.bind(config.admin).await?;
        let address = listener.local_address()?;
        Ok((listener, address))
    };
    let (door, address) = bound.await.map_err(|source| BuildError::Admin { address: config.admin, source })?;
    if config.name.is_empty() {
        config.name = machine::worker_name(address.port());
    }
    let nodes = config.nodes();
    let runtime = match config.runtime {
        RuntimeKind::Hollow => {
            let seed = own_seed(&config);
            AnyRuntime::Hollow(Hollow::bind(&config.hollow, &nodes, seed, Arc::clone(&network))?)
        }
        RuntimeKind::Process => {
            config.process.user.map_or(Ok(()), SandboxUser::check).map_err(BuildError::User)?;
            warn_of_tokens(&config.process);
            let address = config.process.address.find().await.map_err(BuildError::Address)?;
            warn_of_loopback(address, &config.control_planes);
            let process = Process::prepare(config.process.clone(), address, &config.data_dir, &nodes);
            let directory = config.data_dir.clone();
            AnyRuntime::Process(process.map_err(|source| BuildError::Process { directory, source })?)
        }
    };
    let (worker, runtime_name) = (config.name.clone(), config.runtime.to_string());
    let instance = api::draw_instance();
    let identity = Identity { worker, instance, runtime: runtime_name, admin: address, nodes };
    Ok(Built { config, network, identity, door, runtime })
}

impl Built {
    /// Where health, metrics and logs are served.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.identity.admin
    }

    /// What it calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Serves until `shutdown`, then ends every sandbox and returns.
    ///
    /// # Errors
    /// When sandboxes do not end.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { config, network, identity, door, runtime } = self;
        let runtime: Arc<dyn Runtime> = match runtime {
            AnyRuntime::Hollow(hollow) => {
                hollow.serve();
                Arc::new(hollow)
            }
            AnyRuntime::Process(process) => Arc::new(process),
        };
        let (metrics, commanded) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(false)));
        let (inputs, queue) = mpsc::channel(INPUTS);
        let pages = Admin {
            inputs: inputs.clone(),
            runtime: Arc::clone(&runtime),
            metrics: Arc::clone(&metrics),
            commanded: Arc::clone(&commanded),
        };
        let pages = admin::pages(pages, config.hosts.clone()).serve(door, shutdown.clone());
        let _pages = AbortOnDropHandle::new(tokio::spawn(pages));
        let instance = identity.instance;
        let owner = Owner::new(identity, runtime, metrics, commanded).run(queue, shutdown.clone());
        let mut owner = AbortOnDropHandle::new(tokio::spawn(owner));
        let session = session(&config, instance, network, inputs).run(shutdown.clone());
        let session = AbortOnDropHandle::new(tokio::spawn(session));
        shutdown.cancelled().await;
        let client_timeout = config.process.grace + END_MARGIN;
        timeout(client_timeout, &mut owner).await.map(drop).map_err(|_| RunError::Sandboxes(client_timeout))?;
        // The reports are on their way; a control plane that does not take them is not waited for.
        let _ = timeout(SHUTDOWN_FLUSH_TIMEOUT, session).await;
        Ok(())
    }
}

/// Says what programs that are not the built-in function may do here.
fn warn_of_tokens(config: &ProcessConfig) {
    let allows_programs = config.images.iter().any(|image| !image.starts_with("builtin:"));
    if allows_programs && config.user.is_none() {
        warn!(
            images = ?config.images,
            "programs run as this user: they can read the tokens of this machine and register functions; process.user \
             (--sandbox-user) names another one"
        );
    }
}

/// A data plane on another machine is told why it cannot connect by its own failures; whoever starts the worker, here.
fn warn_of_loopback(address: IpAddr, control_planes: &[String]) {
    if address.is_loopback() && !control_planes.iter().all(|control_plane| api::is_loopback(control_plane)) {
        warn!(%address, "data planes on other machines cannot connect to sandboxes here: set process.address (--sandbox-address) \
                         to an address or interface that they can reach");
    }
}

fn session(config: &Config, instance: u64, network: Arc<dyn Network>, inputs: mpsc::Sender<Input>) -> Session {
    Session {
        worker: config.name.clone(),
        instance,
        control_planes: config.control_planes.clone(),
        token: TokenSource::new(config.token_file.clone(), &config.data_dir),
        heartbeat: config.heartbeat,
        datagrams: config.datagrams,
        network,
        inputs,
        seed: own_seed(config),
    }
}

/// The configured seed, made this worker's own by its name (FNV-1a), so that workers do not draw the same delays.
fn own_seed(config: &Config) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    config.name.bytes().fold(0xcbf2_9ce4_8422_2325, fold) ^ config.seed
}
