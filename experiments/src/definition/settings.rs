//! What an experiment sets: the load, the functions, the sandboxes, the policies, and what is expected of the result.
//!
//! These are the effective values, after scale, `quick`, runtime and command line have been laid over the definition.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Every value of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Systems to measure, by their names in `systems.toml`; they take turns in this order.
    pub systems: Vec<String>,
    /// Repetitions of every point of every system, at least 1.
    #[serde(default = "one")]
    pub repetitions: u32,
    /// Seed of everything random: sample, arrivals, run times.
    #[serde(default = "one_seed")]
    pub seed: u64,
    /// What is sent.
    pub load: Load,
    /// What is laid over every function the load generator names.
    #[serde(default)]
    pub function: FunctionOverlay,
    /// What functions run in.
    pub sandbox: Sandbox,
    /// Which rules the system decides by.
    #[serde(default)]
    pub policy: Policies,
    /// What the result must show; else exit code 4.
    #[serde(default)]
    pub expect: Expectations,
}

fn one() -> u32 {
    1
}

fn one_seed() -> u64 {
    1
}

/// The schedule and how it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Folder of a trace in Azure 2019 form; empty for the built-in synthetic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// The synthetic trace, as the load generator calls it.
    #[serde(default = "azure_sample")]
    pub synthetic: String,
    /// Minutes of trace to replay, at least 1.
    pub minutes: u32,
    /// How long a minute of the trace takes; shorter compresses the gaps between invocations, not their run times.
    #[serde(default = "real_minute", with = "humantime_serde")]
    pub minute: Duration,
    /// First minute of the trace to replay, from 0.
    #[serde(default)]
    pub start_minute: u32,
    /// How long the first part is that statistics leave out; by default min(10 min, a third of the minutes).
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Duration>,
    /// Functions to sample from the trace, or to make up when it is synthetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// Greatest mean execution of the sample, in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cores: Option<f64>,
    /// Longer run times become this; absent: no bound.
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub max_run: Option<Duration>,
    /// How arrivals are spread within a minute.
    #[serde(default = "exponential")]
    pub arrivals: String,
    /// How the load generator speaks: `http1` or `h2c`.
    #[serde(default)]
    pub protocol: Protocol,
    /// When the load generator gives up on an invocation.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

fn real_minute() -> Duration {
    Duration::from_secs(60)
}

fn azure_sample() -> String {
    "azure-sample".to_owned()
}

fn exponential() -> String {
    "exponential".to_owned()
}

/// Longest warm-up that is taken by default, in seconds.
const DEFAULT_WARMUP_MAX_S: u64 = 600;

impl Load {
    /// Length of the schedule.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.minute * self.minutes
    }

    /// Length of the part that statistics leave out.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        let third = self.length() / 3;
        self.warmup.unwrap_or_else(|| third.min(Duration::from_secs(DEFAULT_WARMUP_MAX_S)))
    }
}

/// A protocol between load generator and system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    H2c,
}

impl Protocol {
    /// Its name on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
        }
    }
}

/// Fields laid over each line of `functions.ndjson`; an absent one leaves what the load generator wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionOverlay {
    /// What to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU reserved for one sandbox, in millicores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Memory reserved for one sandbox, in MiB; absent: what the trace says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Least memory to reserve whatever the trace says, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_at_least: Option<u32>,
    /// Invocations one sandbox runs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Longest run of one invocation, for example `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Scaling bounds and policy, as the system takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scale: BTreeMap<String, toml::Value>,
    /// Bounds of the queue, as the system takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queue: BTreeMap<String, toml::Value>,
}

/// What functions run in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// The runtime, as the system calls it: `hollow` or `process` so far.
    pub runtime: String,
    /// Whether a function's execution is real (`spin`) or stands for work elsewhere (`sleep`).
    pub mode: Mode,
    /// Workers to start, at least 1.
    pub workers: u32,
    /// Hollow nodes in each worker; a worker with real sandboxes is one node.
    #[serde(default = "one")]
    pub nodes: u32,
    /// CPU that may be reserved on each node, in cores.
    pub cpu: String,
    /// Memory that may be reserved on each node, for example `256GiB`.
    pub memory: String,
    /// Modelled delay of a creation, constant.
    #[serde(default, with = "humantime_serde")]
    pub delay: Duration,
}

/// How a function spends its execution time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It computes for that long.
    Spin,
    /// It waits for that long.
    Sleep,
}

/// Which rules the system decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// How many sandboxes.
    pub autoscale: String,
    /// On which node.
    pub placement: String,
    /// Which sandbox's slot.
    pub balance: String,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            autoscale: "reactive".to_owned(),
            placement: "power-of-two".to_owned(),
            balance: "least-loaded".to_owned(),
        }
    }
}

/// What a result must show for the definition to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// Greatest share of measured invocations that may fail, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_share_max: Option<f64>,
    /// Least share of measured invocations that must be cold, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_share_min: Option<f64>,
}

impl Settings {
    /// The first value out of bounds, as key and problem.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let share = |value: Option<f64>| value.is_none_or(|share| (0.0..=1.0).contains(&share));
        let rules: [(&'static str, bool, &str); 13] = [
            ("systems", !self.systems.is_empty(), "must name at least one system"),
            ("repetitions", self.repetitions >= 1, "must be at least 1"),
            ("load.minutes", self.load.minutes >= 1, "must be at least 1"),
            ("load.minute", !self.load.minute.is_zero(), "must be above 0"),
            ("load.warmup", self.load.warmup() < self.load.length(), "must be shorter than load.minutes"),
            ("load.functions", self.load.functions != Some(0), "must be at least 1"),
            ("load.max_cores", self.load.max_cores.is_none() || self.load.functions.is_some(), "needs load.functions"),
            ("load.max_cores", self.load.max_cores.is_none_or(|cores| cores > 0.0), "must be above 0"),
            ("load.timeout", !self.load.timeout.is_zero(), "must be above 0"),
            ("sandbox.workers", self.sandbox.workers >= 1, "must be at least 1"),
            ("sandbox.nodes", self.sandbox.nodes >= 1, "must be at least 1"),
            ("expect.failed_share_max", share(self.expect.failed_share_max), "must be 0 to 1"),
            ("expect.cold_share_min", share(self.expect.cold_share_min), "must be 0 to 1"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, problem)) => Err((key, problem.to_owned())),
            None => Ok(()),
        }
    }

    /// These settings as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values")
    }
}
