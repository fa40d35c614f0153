//! The hollow runtime: a creation is a modelled delay, and this process serves the requests of the sandbox.

mod config;
mod factory;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hollow::{AddressPool, BindError, Delay, Function, FunctionConfig, Sandboxes, WildcardListener};
use model::{NodeSpec, SandboxId};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use service::{Listener, Network};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::debug;

pub use self::config::{Addressing, HollowConfig};
pub(crate) use self::factory::FACTORY;
use super::{CreatedSandbox, CreationFailure, CreationRequest, Output, Runtime, Task};
use crate::{config::mib, creation_limiter::CreationLimiter, messages::SandboxSpec};

/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(5);

/// Hollow sandboxes. Clones share them.
#[derive(Clone)]
pub(crate) struct Hollow(Arc<Shared>);

struct Shared {
    delay: Delay,
    /// `None`: unlimited.
    limiter: Option<CreationLimiter>,
    random: Mutex<Pcg64>,
    sandboxes: Arc<Sandboxes>,
    /// One for each node, because a response names its machine.
    functions: Vec<Arc<Function>>,
    listeners: Listeners,
    /// The sandboxes that exist. Looked up by key only.
    held: Mutex<HashMap<SandboxId, Held>>,
}

/// The way in which sandboxes get an address.
enum Listeners {
    /// One listener for all.
    Wildcard { port: u16, addresses: Mutex<AddressPool>, serving: Mutex<Serving> },
    /// One listener for each.
    PerSandbox { network: Arc<dyn Network>, address: IpAddr },
}

/// The state of the wildcard listener.
enum Serving {
    Bound(WildcardListener),
    Running { _task: AbortOnDropHandle<()> },
    Nothing,
}

struct Held {
    address: SocketAddr,
    /// The sandbox's own listener; ends when dropped.
    listener: Option<AbortOnDropHandle<()>>,
}

impl Hollow {
    /// Binds the listener that all sandboxes share, if they share one.
    pub(crate) fn bind(
        config: &HollowConfig,
        nodes: &[NodeSpec],
        seed: u64,
        network: Arc<dyn Network>,
    ) -> Result<Self, BindError> {
        let listeners = match config.addressing {
            Addressing::Wildcard => {
                let listener = WildcardListener::bind(config.port)?;
                Listeners::Wildcard {
                    port: listener.port(),
                    addresses: Mutex::new(AddressPool::loopback()),
                    serving: Mutex::new(Serving::Bound(listener)),
                }
            }
            Addressing::ListenerPerSandbox => Listeners::PerSandbox { network, address: config.address },
        };
        let max_memory_mib = u32::try_from(mib(config.max_touched)).unwrap_or(u32::MAX);
        let function = |node: &NodeSpec| {
            Function::new(FunctionConfig { mode: config.mode, machine_name: node.name.to_string(), max_memory_mib })
        };
        Ok(Self(Arc::new(Shared {
            delay: config.delay,
            // Not `shared`: modelled creations all take about the same time.
            limiter: (config.parallel_starts > 0).then(|| CreationLimiter::new(config.parallel_starts)),
            random: Mutex::new(Pcg64::seed_from_u64(seed)),
            sandboxes: Arc::new(Sandboxes::default()),
            functions: nodes.iter().map(function).collect(),
            listeners,
            held: Mutex::new(HashMap::new()),
        })))
    }
}

impl Runtime for Hollow {
    /// Serves the common listener, if there is one, until the runtime is dropped.
    fn serve(&self) {
        let Listeners::Wildcard { serving, .. } = &self.0.listeners else { return };
        let mut serving = lock(serving);
        if let Serving::Bound(listener) = std::mem::replace(&mut *serving, Serving::Nothing) {
            let serve = listener.serve(Arc::clone(&self.0.sandboxes), CancellationToken::new());
            *serving = Serving::Running { _task: AbortOnDropHandle::new(tokio::spawn(serve)) };
        }
    }

    fn create(&self, request: CreationRequest) -> Task<Result<CreatedSandbox, CreationFailure>> {
        // Drawn here and not in the future, so that a seed gives the same delays in the order of the commands.
        let delay = self.0.delay.sample(&mut *lock(&self.0.random));
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.create(request, delay).await })
    }

    fn delete(&self, sandbox: SandboxId) -> Task<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.delete(sandbox).await })
    }

    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Always empty: the function in this process writes nothing.
    fn output(&self, sandbox: SandboxId) -> Option<Output> {
        let is_held = lock(&self.0.held).contains_key(&sandbox);
        is_held.then(|| Output { sandbox, ended: None, dropped_bytes: 0, text: String::new() })
    }

    fn outputs(&self, _function: &str) -> Vec<Output> {
        Vec::new()
    }
}

impl Shared {
    async fn create(&self, request: CreationRequest, delay: Duration) -> Result<CreatedSandbox, CreationFailure> {
        let began = Instant::now();
        let mut steps = Vec::with_capacity(1);
        let _permit = match &self.limiter {
            None => None,
            Some(limiter) => {
                let permit = request.acquire_permit(limiter).await?;
                steps.push(("wait", began.elapsed()));
                Some(permit)
            }
        };
        let admitted = Instant::now();
        // Even the shortest timer takes a millisecond.
        if !delay.is_zero() {
            tokio::select! {
                biased;
                () = request.cancel.cancelled() => return Err(CreationFailure::cancelled()),
                () = sleep(delay) => {}
            }
        }
        let function =
            self.functions.get(request.node).ok_or_else(|| CreationFailure::transient("there is no such node"))?;
        let (address, listener) = self.open(&request.spec).await?;
        // It serves before it is reported, because a data plane connects as soon as it knows the address.
        self.sandboxes.begin(address, Arc::clone(function));
        lock(&self.held).insert(request.sandbox, Held { address, listener });
        let create = began.elapsed();
        steps.push(("delay", admitted.elapsed()));
        Ok(CreatedSandbox { address, create, ready: Duration::ZERO, steps, exit: None })
    }

    /// An address for one sandbox, and the listener on it if sandboxes share none.
    async fn open(&self, spec: &SandboxSpec) -> Result<(SocketAddr, Option<AbortOnDropHandle<()>>), CreationFailure> {
        match &self.listeners {
            Listeners::Wildcard { port, addresses, .. } => {
                let address =
                    lock(addresses).take().ok_or_else(|| CreationFailure::transient("all addresses are in use"))?;
                Ok((SocketAddr::from((address, *port)), None))
            }
            Listeners::PerSandbox { network, address } => {
                let fail = |error| {
                    CreationFailure::transient(format!("cannot listen for {} on {address}: {error}", spec.name))
                };
                let listener = network.bind(SocketAddr::new(*address, 0)).await.map_err(fail)?;
                let address = SocketAddr::new(*address, listener.local_address().map_err(fail)?.port());
                let serve = accept(listener, address, Arc::clone(&self.sandboxes));
                Ok((address, Some(AbortOnDropHandle::new(tokio::spawn(serve)))))
            }
        }
    }

    async fn delete(&self, sandbox: SandboxId) {
        let Some(held) = lock(&self.held).remove(&sandbox) else { return };
        self.sandboxes.end(held.address);
        if let Some(listener) = held.listener {
            // Awaited, so that the address refuses connections before the deletion is reported.
            listener.abort();
            let _ = listener.await;
        }
        // Last: from here on another sandbox may have the address.
        if let (Listeners::Wildcard { addresses, .. }, IpAddr::V4(address)) = (&self.listeners, held.address.ip()) {
            lock(addresses).release(address);
        }
    }
}

/// Serves the connections of one sandbox until it is aborted.
async fn accept(listener: Box<dyn Listener>, address: SocketAddr, sandboxes: Arc<Sandboxes>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                // The sandbox has ended. Dropping the connection closes it.
                let Ok(connection) = sandboxes.connection(address) else { continue };
                tokio::spawn(connection.serve(accepted.io));
            }
            Err(error) => {
                debug!(%address, cause = %error, "cannot accept a connection to a hollow sandbox");
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// Every change leaves the values consistent, so a panic of another holder does not make them unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
