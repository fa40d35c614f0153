//! The section `process` of a worker's configuration.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use hollow::Mode;
use serde::{Deserialize, Serialize};

use service::ConfigError;

use crate::{Config, SandboxAddress, SandboxUser};

/// Settings of the `process` runtime.
///
/// Enforced: memory, by `RLIMIT_DATA` for each process and, for all processes of a sandbox together, by polling or by a
/// control group. CPU is reserved at placement but not limited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// The program of `builtin:function`; by default, the file `trace-function` next to this program.
    pub function: Option<PathBuf>,
    /// Images that may be run. An entry that ends in `:` or `/` is a prefix of images. Everybody who may register
    /// functions can run these programs as this user, so the default allows the built-in function only.
    pub images: Vec<String>,
    /// User of the sandboxes; by default, the user of this process. A program that runs as this user can read what this
    /// process can, for example the tokens of operators and of the cluster. Only root may name another user.
    pub user: Option<SandboxUser>,
    /// Address on which sandboxes take connections: an address of this machine, or the name of the interface that has
    /// it. Data planes on other machines cannot connect to a loopback address. If it is missing when the worker starts,
    /// the worker waits ten seconds for it.
    pub address: SandboxAddress,
    /// The way in which `builtin:function` spends its time.
    pub mode: Mode,
    /// Longest time from the start of a program to the first connection that its port takes.
    #[serde(with = "model::duration")]
    pub ready_deadline: Duration,
    /// Longest pause between two probes of the port; the first is 1 ms and each next one half again as long.
    #[serde(with = "model::duration")]
    pub probe_interval: Duration,
    /// Time between SIGTERM and SIGKILL when a sandbox ends.
    #[serde(with = "model::duration")]
    pub grace: Duration,
    /// Programs that may start at once; more wait. A function gets one more permit while it holds fewer than are free,
    /// so it holds half of all at most: a few functions that never listen do not block the others. With 1 there is
    /// nothing to share: such a function holds the permit for `ready_deadline`.
    pub parallel_starts: usize,
    /// Newest output kept of each sandbox.
    pub log: ByteSize,
    /// Ended sandboxes whose output is still kept.
    pub logs_kept: usize,
    /// Enforces the memory limit of functions.
    pub limit_memory: bool,
    /// The enforcement of the limit for all processes of a sandbox together.
    pub memory_control: MemoryControl,
    /// Added to the limit of the memory that each process may reserve (`RLIMIT_DATA`): a language runtime reserves more
    /// than it uses, for example as thread stacks.
    pub memory_headroom: ByteSize,
    /// Added to the limit of the memory that all processes hold together: the program itself needs some.
    pub resident_headroom: ByteSize,
    /// Time between two passes of the monitor, which checks the memory of sandboxes and ends leftover processes. A pass
    /// takes about 10 µs of CPU for each process of the machine.
    #[serde(with = "model::duration")]
    pub monitor_interval: Duration,
}

/// The enforcement of the memory limit of a whole sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryControl {
    /// The worker polls the memory of all processes.
    #[default]
    Watch,
    /// The kernel, by a control group for each sandbox. The move into it delays every start by some 10 ms.
    Cgroup,
    /// A control group if the worker can make one, otherwise polling.
    Auto,
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

/// [`RuntimeFactory::check`](crate::runtime::RuntimeFactory::check) of this runtime.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let process = &config.process;
    let images_may_be_allowed = process.images.iter().all(|image| model::may_allow_images(image));
    let problem = "(--allow-image): expected `builtin:function`, `file:/path/to/program`, or what such images begin with and \
         `:` or `/`";
    ConfigError::unless(images_may_be_allowed, "process.images", problem)?;
    ConfigError::unless(process.parallel_starts > 0, "process.parallel_starts", "must be at least 1")?;
    ConfigError::unless(!process.ready_deadline.is_zero(), "process.ready_deadline", "must be above 0")?;
    ConfigError::unless(process.probe_interval.as_millis() > 0, "process.probe_interval", "must be at least 1ms")?;
    ConfigError::unless(process.monitor_interval.as_millis() > 0, "process.monitor_interval", "must be at least 1ms")
}
