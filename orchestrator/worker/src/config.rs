//! The worker's configuration: plain data, every key with its default, unknown keys refused.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use hollow::{Delay, Mode};
use model::{NodeName, NodeSpec, Resources};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Cpu, SandboxAddress, SandboxUser, machine};

/// Most hollow nodes of one worker.
const MOST_NODES: u32 = 10_000;
/// Longest worker name, so that with a node's number it stays below the length of a host name.
const LONGEST_NAME: usize = 200;

/// A worker's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Its name, unique in the cluster and stable over restarts. Empty: the host's name and the port of `admin`, which no
    /// two workers of a host share.
    pub name: String,
    /// Stream addresses (`host:port`) of the control-plane replicas; the leader is found by trying.
    pub control_planes: Vec<String>,
    /// File with the cluster's token, which the control plane leaves in its data directory as `cluster-token`. Not given, it
    /// is looked for in the folder `control-plane` beside `data_dir`.
    pub token_file: Option<PathBuf>,
    /// Where health, metrics and logs are served; port 0 takes any free one.
    pub admin: SocketAddr,
    /// Host names with a dot by which `admin` may be called; addresses and names without a dot always may.
    pub hosts: Vec<String>,
    /// Folder of its own: working directories of its sandboxes.
    pub data_dir: PathBuf,
    /// How sandboxes are made.
    pub runtime: RuntimeKind,
    /// Threads of its process, 0: half of the cores. Hollow sandboxes are served by them.
    pub threads: usize,
    /// Time between heartbeats.
    #[serde(with = "model::duration")]
    pub heartbeat: Duration,
    /// Whether heartbeats may go as UDP datagrams, to the port of the control plane's streams. Where none arrives there
    /// they go over a connection in any case.
    pub datagrams: bool,
    /// Seed of everything random here; equal seeds and names give equal creation delays.
    pub seed: u64,
    /// The node, for runtimes that have one.
    pub node: NodeConfig,
    /// Settings of the `process` runtime.
    pub process: ProcessConfig,
    /// Settings of the `hollow` runtime.
    pub hollow: HollowConfig,
}

/// How sandboxes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// A child process each.
    #[default]
    Process,
    /// A modelled delay each; requests are answered in this process.
    Hollow,
}

/// What may be reserved on the node of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// CPU; the machine's when not given.
    pub cpu: Option<Cpu>,
    /// Memory; the machine's when not given.
    pub memory: Option<ByteSize>,
}

/// Settings of the `process` runtime.
///
/// Enforced: memory, by `RLIMIT_DATA` for each process and, for all of a sandbox, by watching what they hold or by a control
/// group. CPU is reserved at placement but not limited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// The program of `builtin:function`; the file `trace-function` beside this program when not given.
    pub function: Option<PathBuf>,
    /// Images that may be run: each entry is an image, or, when it ends in `:` or `/`, what images begin with. Whoever may
    /// register functions can run these programs as this user, so nothing but the built-in function is allowed unasked.
    pub images: Vec<String>,
    /// As whom sandboxes run; absent: as this process. A program that runs as this user can read what this process can, for
    /// example the tokens of operators and of the cluster. Only root may name another one.
    pub user: Option<SandboxUser>,
    /// Where sandboxes take connections: an address of this machine, or the name of the interface that has it. Data planes
    /// on other machines cannot connect to a loopback address. One that is missing when the worker starts is waited for, for
    /// ten seconds.
    pub address: SandboxAddress,
    /// How `builtin:function` spends its time.
    pub mode: Mode,
    /// Longest time from the start of a program to the first connection that its port takes.
    #[serde(with = "model::duration")]
    pub ready_deadline: Duration,
    /// Longest pause between two probes of the port; the first is 1 ms and each next one half again as long.
    #[serde(with = "model::duration")]
    pub probe_interval: Duration,
    /// Time a sandbox has to end by itself after SIGTERM; then SIGKILL.
    #[serde(with = "model::duration")]
    pub grace: Duration,
    /// Programs being started at once; more wait. A function gets one more of these places while it has fewer than are
    /// free: half of all at most, so that one that never listens does not keep others from starting, and a few of them do
    /// not either. With 1 there is nothing to share: it is held for `ready_deadline` then.
    pub parallel_starts: usize,
    /// Newest output kept of each sandbox.
    pub log: ByteSize,
    /// Ended sandboxes whose output is still kept.
    pub logs_kept: usize,
    /// Whether a sandbox is held to its function's memory.
    pub limit_memory: bool,
    /// Who holds all processes of a sandbox together to it.
    pub memory_control: MemoryControl,
    /// Added to the limit of what each of its processes may reserve (`RLIMIT_DATA`): a language's runtime reserves more
    /// than it uses, for example as thread stacks.
    pub memory_headroom: ByteSize,
    /// Added to the limit of what all its processes hold together: the program itself takes some.
    pub resident_headroom: ByteSize,
    /// Time between two looks at the memory that sandboxes hold, and at what ended ones left behind. A look costs about
    /// 10 µs of CPU for each process of the machine.
    #[serde(with = "model::duration")]
    pub monitor_interval: Duration,
}

/// Who holds a sandbox to its function's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryControl {
    /// The worker looks every now and then.
    #[default]
    Watch,
    /// The kernel, by a control group for each sandbox. Every start waits some 10 ms for the move into it.
    Cgroup,
    /// A control group where one can be made, or else the worker.
    Auto,
}

/// Settings of the `hollow` runtime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HollowConfig {
    /// Modelled nodes.
    pub nodes: u32,
    /// CPU of each.
    pub cpu: Cpu,
    /// Memory of each.
    pub memory: ByteSize,
    /// How long a creation takes.
    pub delay: Delay,
    /// Creations under way at once over all its nodes, 0: any number; more wait.
    pub parallel_starts: usize,
    /// How functions spend their time.
    pub mode: Mode,
    /// Most memory that one request may touch in this process; more is cut to it.
    pub max_touched: ByteSize,
    /// How sandboxes get an address.
    pub addressing: Addressing,
    /// Port of the wildcard listener; 0 takes any free one.
    pub port: u16,
    /// Address of the listeners when each sandbox has its own.
    pub address: IpAddr,
}

/// How hollow sandboxes get an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// Each its own 127/8 address behind one listener: scales to any number on one real machine.
    #[default]
    Wildcard,
    /// Each its own listener on `address`: for simulated networks.
    ListenerPerSandbox,
}

/// A key of the configuration has a value out of bounds.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key's path, for example `hollow.nodes`.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub problem: String,
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
            process: ProcessConfig::default(),
            hollow: HollowConfig::default(),
        }
    }
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            function: None,
            images: vec!["builtin:".to_owned()],
            user: None,
            address: SandboxAddress::default(),
            mode: Mode::Spin,
            ready_deadline: Duration::from_secs(10),
            probe_interval: Duration::from_millis(20),
            grace: Duration::from_secs(2),
            parallel_starts: 32,
            log: ByteSize::kib(64),
            logs_kept: 64,
            limit_memory: true,
            memory_control: MemoryControl::default(),
            memory_headroom: ByteSize::mib(256),
            resident_headroom: ByteSize::mib(32),
            monitor_interval: Duration::from_secs(1),
        }
    }
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

impl Config {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first key out of bounds.
    pub fn check(&self) -> Result<(), ConfigError> {
        let name_fits = self.name.len() <= LONGEST_NAME
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let nodes = format!("(--nodes): expected 1 to {MOST_NODES}, got {}", self.hollow.nodes);
        let checks = [
            (name_fits, "name", "(--name): expected at most 200 letters, digits, '.', '_' or '-'"),
            (!self.control_planes.is_empty(), "control_planes", "expected at least one host:port"),
            (
                self.control_planes.iter().all(|address| api::is_address(address)),
                "control_planes",
                "(--control-plane): expected HOST:PORT of a control plane's stream, without http://",
            ),
            (!self.heartbeat.is_zero(), "heartbeat", "must be above 0"),
            (
                self.process.images.iter().all(|image| model::may_allow_images(image)),
                "process.images",
                "(--allow-image): expected `builtin:function`, `file:/path/to/program`, or what such images begin with and `:` or `/`",
            ),
            (self.process.parallel_starts > 0, "process.parallel_starts", "must be at least 1"),
            (!self.process.ready_deadline.is_zero(), "process.ready_deadline", "must be above 0"),
            (self.process.probe_interval.as_millis() > 0, "process.probe_interval", "must be at least 1ms"),
            (self.process.monitor_interval.as_millis() > 0, "process.monitor_interval", "must be at least 1ms"),
            ((1..=MOST_NODES).contains(&self.hollow.nodes), "hollow.nodes", nodes.as_str()),
            (!self.hollow.address.is_unspecified(), "hollow.address", "must be an address clients can connect to"),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, problem)) => Err(ConfigError { key, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }

    /// The nodes of this worker, in the order in which commands count them.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeSpec> {
        match self.runtime {
            RuntimeKind::Process => {
                let machine = machine::capacity();
                let capacity = Resources {
                    cpu_millicores: self.node.cpu.map_or(machine.cpu_millicores, |cpu| cpu.millicores),
                    memory_mib: self.node.memory.map_or(machine.memory_mib, mib),
                };
                vec![NodeSpec { name: NodeName(self.name.as_str().into()), capacity }]
            }
            RuntimeKind::Hollow => {
                let memory_mib = mib(self.hollow.memory);
                let capacity = Resources { cpu_millicores: self.hollow.cpu.millicores, memory_mib };
                let name = |index| NodeName(format!("{}-{index}", self.name).into());
                (0..self.hollow.nodes).map(|index| NodeSpec { name: name(index), capacity }).collect()
            }
        }
    }
}

/// Whole MiB, rounded down.
pub(crate) fn mib(size: ByteSize) -> u64 {
    size.as_u64() / ByteSize::mib(1).as_u64()
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Hollow => "hollow",
        })
    }
}

impl FromStr for RuntimeKind {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text {
            "process" => Ok(Self::Process),
            "hollow" => Ok(Self::Hollow),
            _ => Err(ConfigError { key: "runtime", problem: format!("{text:?}: expected process or hollow") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hollow_nodes_are_numbered_and_have_what_is_configured() {
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
    fn what_is_out_of_bounds_is_named() {
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
            assert_eq!(config.check().unwrap_err().key, key);
        }
        for unknown in ["colour = 1", "[node]\ncolour = 1", "[process]\ncolour = 1", "[hollow]\ncolour = 1"] {
            assert!(toml::from_str::<Config>(unknown).unwrap_err().to_string().contains("colour"), "{unknown}");
        }
        assert!("docker".parse::<RuntimeKind>().unwrap_err().to_string().contains("hollow"));
    }
}
