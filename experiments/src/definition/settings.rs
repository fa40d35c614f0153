//! Settings of an experiment: the load, the functions, the sandboxes, the policies, and the expected result.
//!
//! These are the effective values, after the overrides of scale, `quick`, runtime and command line.

use std::{collections::BTreeMap, time::Duration};

use record::ExecutionMode;
use serde::{Deserialize, Serialize};

use crate::definition::load::{Load, Rule};

/// Greatest seed: TOML integers end at 2^63 − 1, and the seeds of further repetitions are greater.
pub(super) const MAX_SEED: u64 = 9_000_000_000_000_000_000;

/// Most repetitions: a typing error must not plan a year.
const MAX_REPETITIONS: u32 = 1000;

/// Every value of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Systems to measure, by their names in `systems.toml`; they alternate in this order.
    pub systems: Vec<String>,
    /// Repetitions of every point of every system, at least 1.
    #[serde(default = "one")]
    pub repetitions: u32,
    /// Seed of everything random in the first repetition: sample, arrivals, run times. Each next repetition has the next
    /// number.
    #[serde(default = "one_seed")]
    pub seed: u64,
    /// The load.
    pub load: Load,
    /// Fields that override those of every function that the load generator names.
    #[serde(default)]
    pub function: FunctionOverlay,
    /// Runtime and size of the sandboxes.
    pub sandbox: Sandbox,
    /// The system's policies.
    #[serde(default)]
    pub policy: Policies,
    /// Values of the systems' parameters, which override each system's own: `{parameters.NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Thresholds of the result; exit code 4 if one is not met.
    #[serde(default)]
    pub expect: Expectations,
}

fn one() -> u32 {
    1
}

fn one_seed() -> u64 {
    1
}

/// Fields that override those of each line of `functions.ndjson`; an absent one leaves the load generator's value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionOverlay {
    /// Image to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU reserved for one sandbox, in millicores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Memory reserved for one sandbox, in MiB; absent: as in the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Lower bound of the reserved memory, in MiB, for traces with smaller functions.
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

/// Runtime and size of the sandboxes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// The runtime, as the system calls it: `hollow` or `process` so far.
    pub runtime: String,
    /// `spin`: functions compute; `sleep`: they wait, as for work elsewhere.
    pub mode: ExecutionMode,
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
    /// Most concurrent creations of each worker, 0: unlimited; others wait.
    #[serde(default)]
    pub parallel_starts: u32,
}

/// The system's policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Policy for the number of sandboxes.
    pub autoscale: String,
    /// Policy for the choice of a node.
    pub placement: String,
    /// Policy for the choice of a sandbox.
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

/// Thresholds of the result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// Greatest share of measured invocations that may fail, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_share_max: Option<f64>,
    /// Least share of successful measured invocations that must be cold, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_share_min: Option<f64>,
    /// Least measured invocations that succeed per second, of a constant rate.
    #[serde(alias = "answered_per_s_min", default, skip_serializing_if = "Option::is_none")]
    pub succeeded_per_s_min: Option<f64>,
    /// Greatest share of measured invocations without any response, 0 to 1; a refusal is a response.
    #[serde(alias = "silent_share_max", default, skip_serializing_if = "Option::is_none")]
    pub unresponded_share_max: Option<f64>,
}

impl Settings {
    /// The first value out of bounds, as key and problem.
    ///
    /// # Errors
    /// If there is one.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let share = |value: Option<f64>| value.is_none_or(|share| (0.0..=1.0).contains(&share));
        let mut rules: Vec<Rule> = vec![
            ("systems", !self.systems.is_empty(), "must name at least one system"),
            ("repetitions", (1..=MAX_REPETITIONS).contains(&self.repetitions), "must be 1 to 1000"),
            ("seed", self.seed <= MAX_SEED, "must be at most 9000000000000000000"),
        ];
        rules.extend(self.load.rules());
        rules.extend([
            ("sandbox.workers", self.sandbox.workers >= 1, "must be at least 1"),
            ("sandbox.nodes", self.sandbox.nodes >= 1, "must be at least 1"),
            ("expect.failed_share_max", share(self.expect.failed_share_max), "must be 0 to 1"),
            ("expect.cold_share_min", share(self.expect.cold_share_min), "must be 0 to 1"),
            ("expect.unresponded_share_max", share(self.expect.unresponded_share_max), "must be 0 to 1"),
            (
                "expect.succeeded_per_s_min",
                self.expect.succeeded_per_s_min.is_none() || self.load.rate().is_some(),
                "needs a load of kind rate",
            ),
        ]);
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, problem)) => Err((key, problem.to_owned())),
            None => Ok(()),
        }
    }

    /// The seed of a repetition, from 1, the same for every system: the definition's for the first one, and the next number
    /// for each further one.
    #[must_use]
    pub fn seed_of(&self, repetition: u32) -> u64 {
        self.seed + u64::from(repetition.saturating_sub(1))
    }

    /// The settings of a repetition: these, with its own seed.
    #[must_use]
    pub fn of_repetition(&self, repetition: u32) -> Self {
        Self { seed: self.seed_of(repetition), ..self.clone() }
    }

    /// These settings as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values")
    }
}
