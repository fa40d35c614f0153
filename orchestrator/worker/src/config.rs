//! The worker's configuration: plain data; every key has a default and unknown keys are refused.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use model::NodeSpec;
use serde::{Deserialize, Serialize};
use service::ConfigError;

use crate::{
    Cpu,
    runtime::{RuntimeKind, runtime_table},
};

/// Defines [`Config`] with a section for each line of the table of runtimes.
macro_rules! define_config {
    ($($runtime:ident: $section:ty => $factory:expr,)*) => {
        /// A worker's configuration.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Config {
            /// Name of the worker, unique in the cluster and stable over restarts. If empty, the host's name and the port of
            /// `admin`, which differ between the workers of a host.
            pub name: String,
            /// Stream addresses (`host:port`) of the control-plane replicas; the worker tries them until it finds the leader.
            pub control_planes: Vec<String>,
            /// File with the cluster's token, which the control plane writes to its data directory as `cluster-token`. By
            /// default, the file in the folder `control-plane` next to `data_dir`.
            pub token_file: Option<PathBuf>,
            /// Address of health checks, metrics and logs; port 0 takes any free one.
            pub admin: SocketAddr,
            /// Host names with a dot by which `admin` may be called; addresses and names without a dot always may.
            pub hosts: Vec<String>,
            /// Directory for the working directories of sandboxes; no other process may use it.
            pub data_dir: PathBuf,
            /// The runtime that makes the sandboxes.
            pub runtime: RuntimeKind,
            /// Threads of the process, 0: half of the cores. They also serve hollow sandboxes.
            pub threads: usize,
            /// Time between heartbeats.
            #[serde(with = "model::duration")]
            pub heartbeat: Duration,
            /// Allows heartbeats as UDP datagrams, to the port of the control plane's streams. If none arrives there,
            /// heartbeats use a connection in any case.
            pub datagrams: bool,
            /// Seed of all randomness in this worker; equal seeds and names give equal creation delays.
            pub seed: u64,
            /// The node of a runtime that runs sandboxes on this machine.
            pub node: NodeConfig,
            $(
                #[doc = concat!("Settings of the `", stringify!($runtime), "` runtime.")]
                pub $runtime: $section,
            )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    name: String::new(),
                    control_planes: vec!["127.0.0.1:9090".to_owned()],
                    token_file: None,
                    admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 10015)),
                    hosts: Vec::new(),
                    data_dir: PathBuf::from("dirigent-data/worker"),
                    runtime: RuntimeKind::default(),
                    threads: 1,
                    heartbeat: Duration::from_millis(250),
                    datagrams: true,
                    seed: 1,
                    node: NodeConfig::default(),
                    $($runtime: <$section>::default(),)*
                }
            }
        }
    };
}
runtime_table!(define_config);

/// The resources that may be reserved on the node of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// CPU; by default, the machine's.
    pub cpu: Option<Cpu>,
    /// Memory; by default, the machine's.
    pub memory: Option<ByteSize>,
}

impl service::Config for Config {
    /// Checks every bound, also those of runtimes that are not chosen: a mistake shows before the runtime is changed.
    fn validate(&self) -> Result<(), ConfigError> {
        api::check_peer_config(&self.name, &self.control_planes)?;
        ConfigError::unless(!self.heartbeat.is_zero(), "heartbeat", "must be above 0")?;
        RuntimeKind::all().try_for_each(|runtime| (runtime.factory().check)(self))
    }
}

impl Config {
    /// The nodes of this worker, in the order in which commands count them.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeSpec> {
        (self.runtime.factory().nodes)(self)
    }
}

/// Whole MiB, rounded down.
pub(crate) fn mib(size: ByteSize) -> u64 {
    size.as_u64() / ByteSize::mib(1).as_u64()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use model::Resources;
    use service::Config as _;

    use super::*;

    #[test]
    fn hollow_nodes_are_numbered_and_have_the_configured_resources() {
        let config: Config = toml::from_str(
            r#"name = "w"
            runtime = "hollow"
            hollow = { nodes = 100, cpu = "64", memory = "256GiB", delay = { model = "constant", value = "0ms" } }"#,
        )
        .unwrap();
        let nodes = config.nodes();
        assert_eq!((nodes.len(), nodes[99].name.to_string().as_str()), (100, "w-99"));
        assert_eq!(nodes[0].capacity, Resources { cpu_millicores: 64_000, memory_mib: 256 * 1024 });
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_with_its_key() {
        type Change = fn(&mut Config);
        let changes: [(Change, &str); 8] = [
            (|c| c.name = "a b".to_owned(), "name"),
            (|c| c.control_planes.clear(), "control_planes"),
            (|c| c.control_planes = vec!["http://127.0.0.1:9090".to_owned()], "control_planes"),
            (|c| c.heartbeat = Duration::ZERO, "heartbeat"),
            (|c| c.hollow.nodes = 0, "hollow.nodes"),
            (|c| c.hollow.address = IpAddr::V4(Ipv4Addr::UNSPECIFIED), "hollow.address"),
            (|c| c.process.parallel_starts = 0, "process.parallel_starts"),
            (|c| c.process.monitor_interval = Duration::ZERO, "process.monitor_interval"),
        ];
        for (change, key) in changes {
            let mut config = Config { name: "w".to_owned(), ..Config::default() };
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
        for unknown in ["colour = 1", "[node]\ncolour = 1"] {
            assert!(toml::from_str::<Config>(unknown).unwrap_err().to_string().contains("colour"), "{unknown}");
        }
    }
}
