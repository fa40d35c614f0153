//! The hollow runtime: a creation is a modelled delay, and this process answers for the sandbox.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::{Listener, Network};
use hollow::{AddressPool, BindError, Delay, Function, FunctionConfig, Sandboxes, WildcardListener};
use model::{NodeSpec, SandboxId};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::debug;

use super::{Failure, Made, Order, Output, Runtime, Task};
use crate::{
    config::{Addressing, HollowConfig, mib},
    starts::Starts,
    state::Spec,
};

/// Wait after a failed accept, so that the loop does not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(5);

/// Hollow sandboxes. Clones share them.
#[derive(Clone)]
pub(crate) struct Hollow(Arc<Shared>);

struct Shared {
    delay: Delay,
    /// `None`: as many at once as are commanded.
    starts: Option<Starts>,
    random: Mutex<Pcg64>,
    sandboxes: Arc<Sandboxes>,
    /// One a node, because an answer names its machine.
    functions: Vec<Arc<Function>>,
    doors: Doors,
    /// Where each sandbox answers. Looked up by key only.
    held: Mutex<HashMap<SandboxId, Held>>,
}

/// How sandboxes get an address.
enum Doors {
    /// One listener for all.
    Wildcard { port: u16, addresses: Mutex<AddressPool>, serving: Mutex<Serving> },
    /// A listener each.
    Each { network: Arc<dyn Network>, address: IpAddr },
}

/// The wildcard listener, bound and later serving.
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
    /// Binds what is bound for all sandboxes; nothing is served before [`serve`](Self::serve).
    pub(crate) fn bind(
        config: &HollowConfig,
        nodes: &[NodeSpec],
        seed: u64,
        network: Arc<dyn Network>,
    ) -> Result<Self, BindError> {
        let doors = match config.addressing {
            Addressing::Wildcard => {
                let listener = WildcardListener::bind(config.port)?;
                Doors::Wildcard {
                    port: listener.port(),
                    addresses: Mutex::new(AddressPool::loopback()),
                    serving: Mutex::new(Serving::Bound(listener)),
                }
            }
            Addressing::ListenerPerSandbox => Doors::Each { network, address: config.address },
        };
        let max_memory_mib = u32::try_from(mib(config.max_touched)).unwrap_or(u32::MAX);
        let function = |node: &NodeSpec| {
            Function::new(FunctionConfig { mode: config.mode, machine_name: node.name.to_string(), max_memory_mib })
        };
        Ok(Self(Arc::new(Shared {
            delay: config.delay,
            starts: (config.parallel_starts > 0).then(|| Starts::new(config.parallel_starts)),
            random: Mutex::new(Pcg64::seed_from_u64(seed)),
            sandboxes: Arc::new(Sandboxes::default()),
            functions: nodes.iter().map(function).collect(),
            doors,
            held: Mutex::new(HashMap::new()),
        })))
    }

    /// Begins to serve the sandboxes' common listener, if there is one, until the runtime is dropped.
    pub(crate) fn serve(&self) {
        let Doors::Wildcard { serving, .. } = &self.0.doors else { return };
        let mut serving = lock(serving);
        if let Serving::Bound(listener) = std::mem::replace(&mut *serving, Serving::Nothing) {
            let serve = listener.serve(Arc::clone(&self.0.sandboxes), CancellationToken::new());
            *serving = Serving::Running { _task: AbortOnDropHandle::new(tokio::spawn(serve)) };
        }
    }
}

impl Runtime for Hollow {
    fn create(&self, order: Order) -> Task<Result<Made, Failure>> {
        // Drawn here and not in the future, so that delays follow the order of the commands.
        let delay = self.0.delay.sample(&mut *lock(&self.0.random));
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.create(order, delay).await })
    }

    fn delete(&self, sandbox: SandboxId) -> Task<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.delete(sandbox).await })
    }

    /// The function in this process writes nothing.
    fn output(&self, sandbox: SandboxId) -> Option<Output> {
        let is_held = lock(&self.0.held).contains_key(&sandbox);
        is_held.then(|| Output { sandbox, ended: None, dropped_bytes: 0, text: String::new() })
    }

    fn outputs(&self, _function: &str) -> Vec<Output> {
        Vec::new()
    }
}

impl Shared {
    async fn create(&self, order: Order, delay: Duration) -> Result<Made, Failure> {
        let began = Instant::now();
        let mut steps = Vec::with_capacity(1);
        let _place = match &self.starts {
            None => None,
            Some(starts) => {
                let place = order.place(starts).await?;
                steps.push(("wait", began.elapsed()));
                Some(place)
            }
        };
        let placed = Instant::now();
        // Without a delay no timer is waited for: the shortest one is a millisecond.
        if !delay.is_zero() {
            tokio::select! {
                biased;
                () = order.cancel.cancelled() => return Err(Failure::cancelled()),
                () = sleep(delay) => {}
            }
        }
        let function = self.functions.get(order.node).ok_or_else(|| Failure::passing("there is no such node"))?;
        let (address, listener) = self.open(&order.spec).await?;
        self.sandboxes.begin(address, Arc::clone(function));
        lock(&self.held).insert(order.sandbox, Held { address, listener });
        let create = began.elapsed();
        steps.push(("delay", placed.elapsed()));
        Ok(Made { address, create, ready: Duration::ZERO, steps, exit: None })
    }

    /// An address of its own, and the listener on it where sandboxes share none.
    async fn open(&self, spec: &Spec) -> Result<(SocketAddr, Option<AbortOnDropHandle<()>>), Failure> {
        match &self.doors {
            Doors::Wildcard { port, addresses, .. } => {
                let address = lock(addresses).take().ok_or_else(|| Failure::passing("all addresses are in use"))?;
                Ok((SocketAddr::from((address, *port)), None))
            }
            Doors::Each { network, address } => {
                let fail = |error| Failure::passing(format!("cannot listen for {} on {address}: {error}", spec.name));
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
            // Awaited, so that the address refuses connections when the deletion is reported.
            listener.abort();
            let _ = listener.await;
        }
        if let (Doors::Wildcard { addresses, .. }, IpAddr::V4(address)) = (&self.doors, held.address.ip()) {
            lock(addresses).release(address);
        }
    }
}

/// Takes the connections of one sandbox until it is aborted.
async fn accept(listener: Box<dyn Listener>, address: SocketAddr, sandboxes: Arc<Sandboxes>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                // Not here any more: dropping the connection closes it.
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

/// Every change leaves these whole, so a panic elsewhere does not make them unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
