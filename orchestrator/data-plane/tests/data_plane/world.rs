//! A data plane under test, and builders for messages of the control plane.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::wire;
use data_plane::{Addresses, Config, Handle, Service};
use service::{ANY_LOOPBACK, Network, OsNetwork};
use sim::{ControlPlane, DataPlaneStream, WAIT_TIMEOUT};
use tokio::time::{interval, timeout};

use super::sandbox::Sandbox;

/// A data plane and its control plane.
pub(crate) struct World {
    pub(crate) control_plane: ControlPlane,
    pub(crate) data_plane: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// `None` once [`World::ended`] has waited for its end.
    handle: Option<Handle>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with a configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Arc::new(OsNetwork), change).await
    }

    /// The same, on a network.
    pub(crate) async fn on(network: Arc<dyn Network>, change: impl FnOnce(&mut Config)) -> Self {
        let control_plane = ControlPlane::start().await;
        let mut config = Config {
            name: "dp".to_owned(),
            invoke: ANY_LOOPBACK,
            admin: ANY_LOOPBACK,
            control_planes: vec![control_plane.address.to_string()],
            sample_period: Duration::from_millis(50),
            ..Config::default()
        };
        change(&mut config);
        let handle = Service::start(config, network).await.unwrap();
        let Addresses { invoke, admin } = *handle.addresses();
        Self { control_plane, data_plane: invoke, admin, handle: Some(handle) }
    }

    /// Accepts its stream with a snapshot of `functions`.
    pub(crate) async fn accept_stream(&mut self, functions: Vec<wire::FunctionConfig>) -> DataPlaneStream {
        let mut session = self.control_plane.data_plane().await;
        session.welcome(1, functions);
        session.applied(1).await;
        session
    }

    /// Begins the shutdown of the data plane.
    pub(crate) fn shut_down(&self) {
        self.handle.as_ref().unwrap().shutdown();
    }

    /// Waits until the data plane has shut down.
    pub(crate) async fn ended(&mut self) {
        let stopped = self.handle.take().unwrap().stopped();
        timeout(WAIT_TIMEOUT, stopped).await.expect("the data plane ends").unwrap();
    }
}

/// The function `f`, number 1, one invocation per sandbox.
pub(crate) fn function() -> wire::FunctionConfig {
    wire::FunctionConfig {
        function: 1,
        revision: 1,
        name: "f".to_owned(),
        protocol: wire::Protocol::Http1.into(),
        concurrency: 1,
        timeout_ms: 10_000,
        queue_deadline_ms: 10_000,
        queue_limit: 100,
        balance: String::new(),
        retry: wire::Retry::Idempotent.into(),
        connection_idle_ms: None,
    }
}

/// The first state of `sandbox`: active.
pub(crate) fn active(sandbox: u64, at: &Sandbox, slots: u32) -> wire::EndpointDelta {
    delta(sandbox, at.address, slots, wire::EndpointState::Active, 1)
}

pub(crate) fn delta(
    sandbox: u64,
    address: SocketAddr,
    slots: u32,
    state: wire::EndpointState,
    version: u64,
) -> wire::EndpointDelta {
    let address = address.to_string();
    wire::EndpointDelta {
        function: 1,
        sandbox,
        revision: 1,
        address,
        slots,
        state: state.into(),
        version,
        ready_age_us: 0,
    }
}

/// A world with one sandbox of `f`, number 1, of `slots` slots.
pub(crate) async fn with_sandbox(slots: u32) -> (World, DataPlaneStream, Sandbox) {
    with_function(function(), slots).await
}

/// The same, with a function.
pub(crate) async fn with_function(function: wire::FunctionConfig, slots: u32) -> (World, DataPlaneStream, Sandbox) {
    let mut world = World::start().await;
    let mut session = world.accept_stream(vec![function]).await;
    let sandbox = Sandbox::start().await;
    session.delta(active(1, &sandbox, slots));
    session.ack(1, |ack| ack.slots == slots && ack.version == 1).await;
    (world, session, sandbox)
}

/// Returns true if a sandbox was reported as failed.
pub(crate) async fn has_failures(session: &mut DataPlaneStream) -> bool {
    // Reports keep their order: what is reported of another sandbox now comes after all failures so far.
    let other = Sandbox::start().await;
    session.delta(active(2, &other, 1));
    session.ack(2, |ack| ack.slots == 1).await;
    !session.failures.is_empty()
}

/// Polls until `is_so`, with the test's deadline.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(5));
    let check = async {
        while !is_so().await {
            ticks.tick().await;
        }
    };
    timeout(WAIT_TIMEOUT, check).await.unwrap_or_else(|_| panic!("{what}: not within {WAIT_TIMEOUT:?}"));
}
