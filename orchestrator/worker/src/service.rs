//! A worker from its configuration to its end: binds the ports, builds the runtime, and runs the tasks.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use api::TokenSource;
use service::{Config as _, Listener, Network, SHUTDOWN_FLUSH_TIMEOUT, bind};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Config, RunError, StartError,
    admin::{self, Admin},
    hello::Identity,
    metrics::Metrics,
    owner::{Input, Owner},
    runtime::{BuildContext, Runtime},
    session::Session,
};

/// Batches that are read and not executed yet. Few, so that a busy owner slows the control plane down instead of filling this
/// process's memory.
const INPUT_QUEUE: usize = 64;
/// Time for ending all sandboxes at shutdown, in addition to their grace period.
const TERMINATION_MARGIN: Duration = Duration::from_secs(5);

/// A running worker.
pub type Handle = service::Handle<Addresses, RunError>;

/// The name and the address under which a worker is found.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Name of the worker: the configured one, or one made from the host's name.
    pub name: String,
    /// For health checks, metrics and logs.
    pub admin: SocketAddr,
}

/// A worker whose ports are bound and whose runtime is built.
pub struct Service {
    config: Config,
    network: Arc<dyn Network>,
    identity: Identity,
    admin: Box<dyn Listener>,
    runtime: Arc<dyn Runtime>,
}

impl Service {
    /// Binds the ports on `network`, builds the runtime, and serves. Takes some seconds if the address of sandboxes is still
    /// missing.
    ///
    /// # Errors
    /// If the configuration is out of bounds, the admin port is in use, or the runtime cannot be built.
    pub async fn start(config: Config, network: Arc<dyn Network>) -> Result<Handle, StartError> {
        let (service, addresses) = Self::build(config, network).await?;
        Ok(Handle::spawn(addresses, |shutdown| service.run(shutdown)))
    }

    async fn build(mut config: Config, network: Arc<dyn Network>) -> Result<(Self, Addresses), StartError> {
        config.validate()?;
        let (listener, admin) = bind(&*network, "admin", config.admin).await?;
        if config.name.is_empty() {
            config.name = service::default_name("worker", admin.port());
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
        let addresses = Addresses { name: config.name.clone(), admin };
        Ok((Self { config, network, identity, admin: listener, runtime }, addresses))
    }

    /// Serves until `shutdown`, then ends every sandbox.
    async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { config, network, identity, admin, runtime } = self;
        runtime.serve();
        let (metrics, has_leader) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(false)));
        let (inputs, queue) = mpsc::channel(INPUT_QUEUE);
        let pages = Admin {
            inputs: inputs.clone(),
            runtime: Arc::clone(&runtime),
            metrics: Arc::clone(&metrics),
            has_leader: Arc::clone(&has_leader),
        };
        let pages = admin::pages(pages, config.hosts.clone()).serve(admin, shutdown.clone());
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
