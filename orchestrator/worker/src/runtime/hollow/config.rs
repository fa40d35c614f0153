//! The section `hollow` of a worker's configuration.

use std::net::{IpAddr, Ipv4Addr};

use bytesize::ByteSize;
use hollow::{Delay, Mode};
use model::{NodeName, NodeSpec, Resources};
use serde::{Deserialize, Serialize};

use service::ConfigError;

use crate::{Config, Cpu, config::mib};

/// Largest number of hollow nodes of one worker.
const MAX_NODES: u32 = 10_000;

/// Settings of the `hollow` runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HollowConfig {
    /// Number of modelled nodes, 1 to 10,000.
    pub nodes: u32,
    /// CPU of each node.
    pub cpu: Cpu,
    /// Memory of each node.
    pub memory: ByteSize,
    /// Model of the time that a creation takes.
    pub delay: Delay,
    /// Creations that may run at once over all nodes, 0: unlimited; more wait.
    pub parallel_starts: usize,
    /// The way in which functions spend their time.
    pub mode: Mode,
    /// Upper bound of the memory that one request touches in this process; requests for more touch this much.
    pub max_touched: ByteSize,
    /// The way in which sandboxes get an address.
    pub addressing: Addressing,
    /// Port of the wildcard listener; 0 takes any free one.
    pub port: u16,
    /// Address of the listeners if each sandbox has its own.
    pub address: IpAddr,
}

/// The way in which hollow sandboxes get an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// Each sandbox has a 127/8 address behind one listener: scales to any number on one real machine.
    #[default]
    Wildcard,
    /// Each sandbox has a listener on `address`: for simulated networks.
    ListenerPerSandbox,
}

impl Default for HollowConfig {
    fn default() -> Self {
        Self {
            nodes: 1,
            cpu: Cpu { millicores: 64_000 },
            memory: ByteSize::gib(256),
            delay: Delay::default(),
            parallel_starts: 0,
            mode: Mode::Sleep,
            max_touched: ByteSize::mib(0),
            addressing: Addressing::default(),
            port: 0,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// [`RuntimeFactory::check`](crate::runtime::RuntimeFactory::check) of this runtime.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let hollow = &config.hollow;
    let problem = format!("(--nodes): expected 1 to {MAX_NODES}, got {}", hollow.nodes);
    ConfigError::unless((1..=MAX_NODES).contains(&hollow.nodes), "hollow.nodes", problem)?;
    let is_specific = !hollow.address.is_unspecified();
    ConfigError::unless(is_specific, "hollow.address", "must be an address clients can connect to")
}

/// The modelled nodes, named by the worker's name and a number.
pub(super) fn nodes(config: &Config) -> Vec<NodeSpec> {
    let hollow = &config.hollow;
    let capacity = Resources { cpu_millicores: hollow.cpu.millicores, memory_mib: mib(hollow.memory) };
    let name = |index| NodeName(format!("{}-{index}", config.name).into());
    (0..hollow.nodes).map(|index| NodeSpec { name: name(index), capacity }).collect()
}
