//! The real components as software of simulated machines. Each start of a machine builds its component again.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use control_plane::MemoryStore;
use service::Network;
use turmoil::Sim;

use super::{
    event_log::EventLog,
    fault_injector::KilledHosts,
    host::Host,
    network::{SimulatedNetwork, own_address},
    scenario::{DATA_PLANE_GRACE_MS, DATA_PLANES, DEAD_AFTER_MS, Scenario, WORKERS},
};

/// Port of the control plane's streams.
const STREAM_PORT: u16 = 9090;
/// Port of the control plane's operator API.
pub(crate) const OPERATORS_PORT: u16 = 9091;
/// Port of a data plane's invocations.
pub(crate) const INVOKE_PORT: u16 = 8080;
/// Port of a data plane's admin API.
const DATA_PLANE_ADMIN_PORT: u16 = 8085;
/// Port of a worker's admin API.
pub(crate) const WORKER_ADMIN_PORT: u16 = 10015;

/// The state that all machines of a run share.
#[derive(Clone)]
pub(crate) struct Cluster {
    scenario: Arc<Scenario>,
    event_log: EventLog,
    killed: KilledHosts,
}

impl Cluster {
    /// The machines with components, in the order in which the simulation steps them.
    pub(crate) fn hosts() -> Vec<Host> {
        let data_planes = (1..=DATA_PLANES).map(Host::DataPlane);
        std::iter::once(Host::ControlPlane).chain(data_planes).chain((1..=WORKERS).map(Host::Worker)).collect()
    }

    /// The cluster of `scenario`.
    pub(crate) fn new(scenario: Arc<Scenario>, event_log: EventLog, killed: KilledHosts) -> Self {
        Self { scenario, event_log, killed }
    }

    /// Starts every component on its own machine.
    pub(crate) fn start(&self, sim: &mut Sim<'_>) {
        // The command log outlives the control plane.
        let store = MemoryStore::default();
        for host in Self::hosts() {
            let (cluster, store) = (self.clone(), store.clone());
            sim.host(host.name(), move || {
                let (cluster, store) = (cluster.clone(), store.clone());
                async move {
                    // Its machine is up but has no listener, so it refuses connections, like one whose process was
                    // killed.
                    if cluster.killed.contains(host) {
                        pending::<()>().await;
                    }
                    cluster.run(host, store).await?;
                    // Nothing shuts a component down in a run, so its end is a defect.
                    Err(format!("{host} ended by itself").into())
                }
            });
        }
    }

    async fn run(&self, host: Host, store: MemoryStore) -> turmoil::Result {
        let network: Arc<dyn Network> = Arc::new(SimulatedNetwork::new(host, self.event_log.clone()));
        match host {
            Host::ControlPlane => {
                let store = Box::new(store);
                control_plane::Service::start(self.control_plane(), network, store).await?.stopped().await?;
            }
            Host::DataPlane(_) => {
                data_plane::Service::start(self.data_plane(host), network).await?.stopped().await?;
            }
            Host::Worker(_) => worker::Service::start(self.worker(host)?, network).await?.stopped().await?,
            Host::Client(_) | Host::Operator => {}
        }
        Ok(())
    }

    fn control_plane(&self) -> control_plane::Config {
        let own = own_address(Host::ControlPlane);
        let mut config = control_plane::Config {
            stream: SocketAddr::new(own, STREAM_PORT),
            http: SocketAddr::new(own, OPERATORS_PORT),
            seed: self.scenario.seed,
            // A token would be a file, and a simulation must not depend on files.
            auth: false,
            ..control_plane::Config::default()
        };
        config.placement.policy = self.scenario.placement.to_owned();
        config.health.dead_after = Duration::from_millis(DEAD_AFTER_MS);
        config.health.data_plane_grace = Duration::from_millis(DATA_PLANE_GRACE_MS);
        config
    }

    fn data_plane(&self, host: Host) -> data_plane::Config {
        let own = own_address(host);
        data_plane::Config {
            name: host.name(),
            invoke: SocketAddr::new(own, INVOKE_PORT),
            admin: SocketAddr::new(own, DATA_PLANE_ADMIN_PORT),
            control_planes: vec![stream_address()],
            balance: self.scenario.balance.to_owned(),
            seed: Some(self.scenario.seed),
            ..data_plane::Config::default()
        }
    }

    /// From JSON, because the type of a delay is in a crate that this one may not import.
    fn worker(&self, host: Host) -> serde_json::Result<worker::Config> {
        let own = own_address(host);
        serde_json::from_value(serde_json::json!({
            "name": host.name(),
            "control_planes": [stream_address()],
            "admin": SocketAddr::new(own, WORKER_ADMIN_PORT),
            "runtime": "hollow",
            // The simulated network has connections only.
            "datagrams": false,
            "seed": self.scenario.seed,
            "hollow": {
                "nodes": self.scenario.nodes,
                "cpu": self.scenario.node_cpu,
                "memory": "8GiB",
                "delay": { "model": "constant", "value": format!("{}ms", self.scenario.creation_ms) },
                "mode": "sleep",
                "addressing": "listener-per-sandbox",
                "address": own,
            },
        }))
    }
}

fn stream_address() -> String {
    format!("{}:{STREAM_PORT}", Host::ControlPlane)
}
