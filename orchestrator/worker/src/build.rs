//! Builds a worker from its configuration, with its ports bound, and runs it until shutdown.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use api::TokenSource;
use service::{Listener, Network};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Config, ConfigError,
    admin::{self, Admin},
    hello::Identity,
    machine,
    metrics::Metrics,
    owner::{Input, Owner},
    runtime::{BuildContext, Runtime, RuntimeError},
    session::Session,
};

/// Batches that are read and not executed yet. Few, so that a busy owner slows the control plane down instead of filling this
/// process's memory.
const INPUT_QUEUE: usize = 64;
/// Longest wait at shutdown for the last reports to be sent.
const SHUTDOWN_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for ending all sandboxes at shutdown, in addition to their grace period.
const TERMINATION_MARGIN: Duration = Duration::from_secs(5);

/// A worker could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The configuration is out of bounds.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The admin address is in use, or no address of this machine.
    #[error("cannot listen on {address} (admin)")]
    Admin {
        /// The configured address.
        address: SocketAddr,
        /// Error of the system.
        source: io::Error,
    },
    /// The runtime could not be built.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// A running worker failed.
#[derive(Debug, Error)]
pub enum RunError {
    /// Sandboxes did not end in time; they die with this process.
    #[error("sandboxes were still running {0:?} after the shutdown began")]
    Sandboxes(Duration),
}

/// A worker with its ports bound; nothing is served yet.
pub struct Built {
    config: Config,
    network: Arc<dyn Network>,
    identity: Identity,
    admin_listener: Box<dyn Listener>,
    runtime: Arc<dyn Runtime>,
}

/// Checks `config` and binds the ports on `network`. Takes some seconds if the address of sandboxes is still missing.
///
/// # Errors
/// If the configuration is out of bounds, the admin port is in use, or the runtime cannot be built.
pub async fn build(mut config: Config, network: Arc<dyn Network>) -> Result<Built, BuildError> {
    config.check()?;
    let bound = async {
        let listener = network.bind(config.admin).await?;
        let address = listener.local_address()?;
        Ok((listener, address))
    };
    let (admin_listener, admin) = bound.await.map_err(|source| BuildError::Admin { address: config.admin, source })?;
    if config.name.is_empty() {
        config.name = machine::worker_name(admin.port());
    }
    let nodes = config.nodes();
    let context = BuildContext {
        config: config.clone(),
        nodes: nodes.clone(),
        network: Arc::clone(&network),
        seed: worker_seed(&config),
    };
    let runtime = (config.runtime.factory().build)(context).await?;
    let identity = Identity {
        worker: config.name.clone(),
        instance: api::random_instance(),
        runtime: config.runtime.name(),
        admin,
        nodes,
    };
    Ok(Built { config, network, identity, admin_listener, runtime })
}

impl Built {
    /// Address of health checks, metrics and logs.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.identity.admin
    }

    /// Name of the worker: the configured one, or one made from the host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Serves until `shutdown`, then ends every sandbox and returns.
    ///
    /// # Errors
    /// If sandboxes do not end in time.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { config, network, identity, admin_listener, runtime } = self;
        runtime.serve();
        let (metrics, has_leader) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(false)));
        let (inputs, queue) = mpsc::channel(INPUT_QUEUE);
        let admin = Admin {
            inputs: inputs.clone(),
            runtime: Arc::clone(&runtime),
            metrics: Arc::clone(&metrics),
            has_leader: Arc::clone(&has_leader),
        };
        let pages = admin::pages(admin, config.hosts.clone()).serve(admin_listener, shutdown.clone());
        let _pages = AbortOnDropHandle::new(tokio::spawn(pages));
        let instance = identity.instance;
        let end_timeout = runtime.grace() + TERMINATION_MARGIN;
        let owner = Owner::new(identity, runtime, metrics, has_leader).run(queue, shutdown.clone());
        let mut owner = AbortOnDropHandle::new(tokio::spawn(owner));
        let session = session(&config, instance, network, inputs).run(shutdown.clone());
        let session = AbortOnDropHandle::new(tokio::spawn(session));
        shutdown.cancelled().await;
        timeout(end_timeout, &mut owner).await.map(drop).map_err(|_| RunError::Sandboxes(end_timeout))?;
        // The last reports are being sent. A control plane that does not read them must not hold up the shutdown.
        let _ = timeout(SHUTDOWN_FLUSH_TIMEOUT, session).await;
        Ok(())
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
        seed: worker_seed(config),
    }
}

/// The configured seed combined with the worker's name (FNV-1a), so that workers with one seed draw different delays.
fn worker_seed(config: &Config) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    config.name.bytes().fold(0xcbf2_9ce4_8422_2325, fold) ^ config.seed
}
