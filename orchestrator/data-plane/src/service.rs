//! A data plane from its configuration to its end: binds the ports, runs the tasks, and drains at shutdown.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::Arc,
};

use service::{Config as _, Listener, Network, SHUTDOWN_FLUSH_TIMEOUT, bind};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, RunError, StartError, admin, function::FunctionState, overload, plane::Plane, sampler, server, stream,
    upstream,
};

/// A running data plane.
pub type Handle = service::Handle<Addresses, RunError>;

/// The addresses that a data plane has bound.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For invocations.
    pub invoke: SocketAddr,
    /// For health checks and metrics.
    pub admin: SocketAddr,
}

/// A data plane whose ports are bound.
pub struct Service {
    plane: Arc<Plane>,
    seed: u64,
    invoke: Box<dyn Listener>,
    admin: Box<dyn Listener>,
    /// The address that clients are given for invocations.
    advertised: String,
}

impl Service {
    /// Binds the ports on `network` and serves. At shutdown, invocations under way may finish within the drain deadline,
    /// new requests are refused with 503, and finally all grants are returned to the control plane.
    ///
    /// # Errors
    /// If the configuration is invalid or an address cannot be bound.
    pub async fn start(config: Config, network: Arc<dyn Network>) -> Result<Handle, StartError> {
        let (service, addresses) = Self::build(config, network).await?;
        Ok(Handle::spawn(addresses, |shutdown| service.run(shutdown)))
    }

    async fn build(mut config: Config, network: Arc<dyn Network>) -> Result<(Self, Addresses), StartError> {
        config.validate()?;
        let policy = config.balance_policy()?;
        let (invoke, invoke_address) = bind(&*network, "invoke", config.invoke).await?;
        let (admin, admin_address) = bind(&*network, "admin", config.admin).await?;
        if config.name.is_empty() {
            config.name = service::default_name("data-plane", invoke_address.port());
        }
        // The hasher's keys are the only random numbers that the standard library takes from the operating system.
        let seed = config.seed.unwrap_or_else(|| RandomState::new().hash_one("data plane"));
        let advertised = config.advertised.unwrap_or(invoke_address).to_string();
        let plane = Arc::new(Plane::new(config, policy, network, seed));
        let addresses = Addresses { invoke: invoke_address, admin: admin_address };
        Ok((Self { plane, seed, invoke, admin, advertised }, addresses))
    }

    /// Serves until `shutdown`, then drains.
    async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { plane, seed, invoke, admin, advertised } = self;
        let _end = End(plane.clone());
        // Dropping this future drops the set and so aborts the tasks.
        let mut tasks = JoinSet::new();
        tasks.spawn(stream::run(plane.clone(), advertised, seed));
        tasks.spawn(sampler::run(plane.clone()));
        tasks.spawn(upstream::close_aged(plane.clone()));
        tasks.spawn(upstream::probe_sandboxes(plane.clone()));
        tasks.spawn(overload::run(plane.clone()));
        // The admin server spawns a task for each connection; they are cancelled by this token.
        let ended = CancellationToken::new();
        let _ended = ended.clone().drop_guard();
        tasks.spawn(admin::run(plane.clone(), admin, ended));
        let serving = async {
            server::run(plane.clone(), invoke, shutdown).await;
            flush_returned(&plane).await;
        };
        tokio::select! {
            // A completed shutdown takes precedence over a task that ends because of it.
            biased;
            () = serving => Ok(()),
            Some(ended) = tasks.join_next() => Ok(ended?),
        }
    }
}

/// Breaks the reference cycle between functions and data plane, however `run` ends.
struct End(Arc<Plane>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.functions.clear();
    }
}

/// Returns all grants and waits until the control plane has read the report.
async fn flush_returned(plane: &Arc<Plane>) {
    for function in plane.functions.all() {
        function.change(FunctionState::return_all_grants);
    }
    plane.reports.close();
    // A control plane that is away learns of it from the missing data plane.
    let _ = timeout(SHUTDOWN_FLUSH_TIMEOUT, plane.reports.ended()).await;
}
