//! The lifecycle of a data plane: build (ports bound, nothing served), run, shut down.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use service::{Listener, Network};
use thiserror::Error;
use tokio::{
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    config::{Config, ConfigError},
    function::FunctionState,
    host, overload,
    plane::Plane,
    sampler, server, stream, upstream,
};

/// Deadline, at shutdown, for the control plane to receive the returned grants.
const SHUTDOWN_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The data plane could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({key})")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The data plane ended before it was asked to shut down.
#[derive(Debug, Error)]
pub enum RunError {
    /// A background task panicked.
    #[error("a background task of the data plane panicked")]
    Task(#[from] JoinError),
}

/// A data plane whose ports are bound.
pub struct Built {
    plane: Arc<Plane>,
    seed: u64,
    invoke: Box<dyn Listener>,
    admin: Box<dyn Listener>,
    invoke_address: SocketAddr,
    admin_address: SocketAddr,
}

/// Checks `config` and binds its ports on `network`. Nothing is served yet.
///
/// # Errors
/// Returns an error if the configuration is invalid or an address cannot be bound.
pub async fn build(mut config: Config, network: Arc<dyn Network>) -> Result<Built, BuildError> {
    let policy = config.check()?;
    if let Some(suffix) = config.host_suffix.iter().find(|suffix| !host::is_suffix(suffix)) {
        let problem = format!("has {suffix:?}, which is no domain in lower case");
        return Err(ConfigError { key: "host_suffix", problem }.into());
    }
    let (invoke, invoke_address) = bind(&*network, "invoke", config.invoke).await?;
    let (admin, admin_address) = bind(&*network, "admin", config.admin).await?;
    if config.name.is_empty() {
        config.name = default_name(invoke_address.port());
    }
    // The hasher's keys are the only random numbers that the standard library takes from the operating system.
    let seed = config.seed.unwrap_or_else(|| RandomState::new().hash_one("data plane"));
    let plane = Arc::new(Plane::new(config, policy, network, seed));
    Ok(Built { plane, seed, invoke, admin, invoke_address, admin_address })
}

/// The default name: the host's name and the port of `invoke`, which no two data planes of a host share.
fn default_name(port: u16) -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if name.trim().is_empty() { "data-plane" } else { name.trim() };
    format!("{name}-{port}")
}

async fn bind(
    network: &dyn Network,
    key: &'static str,
    address: SocketAddr,
) -> Result<(Box<dyn Listener>, SocketAddr), BuildError> {
    let fail = |source| BuildError::Bind { key, address, source };
    let listener = network.bind(address).await.map_err(fail)?;
    let bound = listener.local_address().map_err(fail)?;
    Ok((listener, bound))
}

impl Built {
    /// The bound address for invocations.
    #[must_use]
    pub fn invoke_address(&self) -> SocketAddr {
        self.invoke_address
    }

    /// The bound address of the admin port.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Serves until `shutdown`, then drains: invocations under way may finish within the drain deadline, new requests
    /// are refused with 503, and finally all grants are returned to the control plane.
    ///
    /// # Errors
    /// Returns an error if a background task ends by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { plane, seed, invoke, admin, invoke_address, .. } = self;
        let _end = End(plane.clone());
        let advertised = plane.config.advertised.unwrap_or(invoke_address).to_string();
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
