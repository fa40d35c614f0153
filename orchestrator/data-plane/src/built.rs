//! A data plane from its configuration to its end: built (ports bound, nothing serving), run, shut down.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use api::{Listener, Network};
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

/// Longest wait, at the end, for what is given back to reach the control plane.
const SHUTDOWN_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A data plane could not be built.
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
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A data plane ended before it was told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A task of it panicked.
    #[error("a task of the data plane failed")]
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

/// Checks `config` and binds its ports on `network`; nothing is served yet.
///
/// # Errors
/// When the configuration cannot be used or a port is taken.
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

/// The name of a data plane that was given none: this host's, and the port of its invocations.
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
    /// Where it takes invocations.
    #[must_use]
    pub fn invoke_address(&self) -> SocketAddr {
        self.invoke_address
    }

    /// Where its admin pages are.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Serves until `shutdown`, then drains: what has begun may end within the drain deadline, new requests are answered
    /// 503, and in the end all slots are given back to the control plane.
    ///
    /// # Errors
    /// When a part of it ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self { plane, seed, invoke, admin, invoke_address, .. } = self;
        let _end = End(plane.clone());
        let advertised = plane.config.advertised.unwrap_or(invoke_address).to_string();
        // Dropped with this future, and its tasks with it.
        let mut tasks = JoinSet::new();
        tasks.spawn(stream::run(plane.clone(), advertised, seed));
        tasks.spawn(sampler::run(plane.clone()));
        tasks.spawn(upstream::close_aged(plane.clone()));
        tasks.spawn(upstream::probe_sandboxes(plane.clone()));
        tasks.spawn(overload::run(plane.clone()));
        // Its connections are tasks of their own.
        let ended = CancellationToken::new();
        let _ended = ended.clone().drop_guard();
        tasks.spawn(admin::run(plane.clone(), admin, ended));
        let serving = async {
            server::run(plane.clone(), invoke, shutdown).await;
            flush_returned(&plane).await;
        };
        tokio::select! {
            biased;
            () = serving => Ok(()),
            Some(ended) = tasks.join_next() => Ok(ended?),
        }
    }
}

/// Breaks the circle of functions and data plane when it ends, however it ends.
struct End(Arc<Plane>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.functions.clear();
    }
}

/// Gives back all slots, and waits for the control plane to have read the news.
async fn flush_returned(plane: &Arc<Plane>) {
    for function in plane.functions.all() {
        function.change(FunctionState::return_all_grants);
    }
    plane.reports.close();
    // A control plane that is away learns it from the missing data plane.
    let _ = timeout(SHUTDOWN_FLUSH_TIMEOUT, plane.reports.ended()).await;
}
