//! `systems.toml`: how each system is built, started, reached, harvested and stopped.
//!
//! The runner knows no system by name; all it knows stands in these tables, as templates that it fills.

pub mod cluster;
pub mod launch;
pub mod needs;
pub mod orphans;
pub mod process;
pub mod readiness;
mod templates;

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use terminal::{Document, DocumentError, TomlTable, overlay};
use toml::{Spanned, de::DeValue};

use crate::{exit::UsageError, system::needs::Need};

/// Every system, by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Systems(pub BTreeMap<String, System>);

/// One system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Description in a sentence.
    pub about: String,
    /// Command whose first line of output is its version; no version, no measurement.
    pub version: Vec<String>,
    /// Runtimes that it supports; empty: any, and the system itself refuses those that it lacks.
    #[serde(default)]
    pub runtimes: Vec<String>,
    /// Requirements of the system on the machine.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// Build of the system's programs.
    #[serde(default)]
    pub build: Build,
    /// True if a run with the system takes place in a private mount, pid and network namespace, together with
    /// everything else of that run.
    #[serde(default)]
    pub isolated: bool,
    /// Typical time to start it, register its functions, harvest and stop it: the estimate of a repetition without its
    /// load, for plans.
    #[serde(default = "setup_estimate", with = "humantime_serde")]
    pub setup_estimate: Duration,
    /// Values that differ between otherwise equal systems: `{parameters.NAME}`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Preparation, once before the first repetition, for all repetitions with the same initial state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Preparation>,
    /// Image that the system runs for each workload, by the image that definitions name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, String>,
    /// Its processes, in the order they are started.
    #[serde(default)]
    pub start: Vec<ProcessTemplate>,
    /// Conditions after every process is ready, before functions are registered.
    #[serde(default)]
    pub ready: Vec<Check>,
    /// Registration of functions.
    pub register: Registration,
    /// Address and protocol for the load generator.
    pub invoke: Invoke,
    /// Files collected after the load.
    #[serde(default)]
    pub harvest: Harvest,
    /// Stopping of the system.
    #[serde(default)]
    pub stop: Stop,
}

/// Build of a system's programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// Packages of this workspace.
    pub packages: Vec<String>,
    /// A command run in the checkout, for what is not in this workspace.
    pub command: Vec<String>,
}

/// A process, or several equal ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessTemplate {
    /// Its role. Several are called `NAME-1`, `NAME-2` ….
    pub name: String,
    /// Number of processes, as a template; absent: one, called NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Files to write into its folder before it starts: name to content.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// File in its folder where it writes the ports it took, as a JSON object; `{ports.NAME.KEY}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// File in its folder that names further processes, if it starts some: a JSON object of roles and process ids,
    /// written before it is ready. Their resource usage is reported separately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child_processes: Option<String>,
    /// Conditions before the next process is started.
    #[serde(default)]
    pub ready: Vec<Check>,
    /// Longest time until it is ready.
    #[serde(default = "ready_timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

/// Time-out of readiness where the table has none.
fn ready_timeout() -> Duration {
    Duration::from_secs(30)
}

/// A condition to wait for: exactly one of `http`, `file`, `command`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// An address that responds with status 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// A file that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A command that succeeds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
}

/// Setup and teardown where the table has no estimate.
fn setup_estimate() -> Duration {
    Duration::from_secs(15)
}

/// Preparation that takes too long to be repeated in every repetition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preparation {
    /// A command that creates the folder `{prepared}` with the state, and ends; `{dir}` is its working directory. It may
    /// depend on `{functions}`.
    pub command: Vec<String>,
    /// Typical time: for plans.
    #[serde(with = "humantime_serde")]
    pub estimate: Duration,
    /// Longest time it may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

/// Registration of functions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// A command that registers all of `{functions}` and ends.
    pub command: Vec<String>,
    /// Longest time it may take.
    #[serde(default = "registration_timeout", with = "humantime_serde")]
    pub timeout: Duration,
}

fn registration_timeout() -> Duration {
    Duration::from_secs(120)
}

/// Address and protocol for the load generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoke {
    /// Name of a table of the load generator's `targets.toml`: how invocations are addressed and responses are read.
    pub target: String,
    /// Target of invocations.
    pub address: String,
    /// The Host header, instead of the target's. Here and below `{function}` is the invoked function and `{address}` is
    /// [`Invoke::address`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path and query, instead of the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Name of the load generator's adapter for what responses report, instead of the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<String>,
    /// Headers to add; one that the target has too is replaced.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// Files collected from a system after the load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Harvest {
    /// File with one row per sandbox creation, complete when the system has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coldstarts: Option<String>,
    /// File with one row for each action of a component, complete when the system has stopped. It is missing if actions
    /// were not to be recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<String>,
    /// Further files that a reader of the run needs: copied as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// True if rows do not report themselves whether they were cold: they are joined to the creations then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub join_coldstarts: bool,
    /// Source of the list of nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesSource>,
}

/// Source of the list of nodes, and the JSON pointers (RFC 6901) of their facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesSource {
    /// Address whose response is JSON.
    pub http: String,
    /// JSON pointer of the list of nodes.
    #[serde(default)]
    pub list: String,
    /// In an element of the list: the node's name.
    pub name: String,
    /// Likewise: its state.
    pub state: String,
    /// Likewise: number of sandboxes on it.
    pub sandboxes: String,
    /// Likewise: reserved CPU, in millicores.
    pub cpu_reserved_millicores: String,
    /// Likewise: reserved memory, in MiB.
    pub memory_reserved_mib: String,
}

/// Stopping of a system: SIGTERM to all its processes in reverse order, SIGKILL to those left after the grace
/// period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// Time between the two signals.
    #[serde(with = "humantime_serde")]
    pub grace_period: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self { grace_period: Duration::from_secs(10) }
    }
}

impl Systems {
    /// Reads `systems.toml`.
    ///
    /// # Errors
    /// If it cannot be read or a value in it is wrong, with file, line and key.
    pub fn read(path: &Path) -> Result<Self, DocumentError> {
        Self::from_document(&Document::read(path)?)
    }

    /// Reads the text of a `systems.toml`.
    ///
    /// # Errors
    /// If a value in it is wrong, with line and key.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        Self::from_document(&Document::new(Path::new("systems.toml"), text.to_owned()))
    }

    fn from_document(document: &Document) -> Result<Self, DocumentError> {
        let mut table = document.parse()?;
        inherit(document, &mut table)?;
        let systems: Self = document.decode(table)?;
        for (name, system) in &systems.0 {
            system.check().map_err(|(key, problem)| document.wrong(&format!("{name}{key}"), problem))?;
        }
        Ok(systems)
    }

    /// The system called `name`.
    ///
    /// # Errors
    /// If there is none; those that exist are named.
    pub fn get(&self, name: &str) -> Result<&System, UsageError> {
        let known = || self.0.keys().cloned().collect::<Vec<_>>().join(", ");
        self.0.get(name).ok_or_else(|| UsageError(format!("no system is called {name:?}; there are: {}", known())))
    }
}

/// Overlays every table with `like = "NAME"` on a copy of the table NAME, which must have no `like` itself: chains would
/// make the order of tables matter.
fn inherit<'a>(document: &Document, table: &mut TomlTable<'a>) -> Result<(), DocumentError> {
    let likes: Vec<(String, String)> = table
        .iter()
        .filter_map(|(name, system)| {
            let like = system.get_ref().get("like")?.get_ref().as_str()?;
            Some((name.get_ref().to_string(), like.to_owned()))
        })
        .collect();
    for (name, like) in &likes {
        let base = table.get(like.as_str()).map(|base| base.get_ref().clone());
        let (Some(DeValue::Table(mut whole)), false) = (base, likes.iter().any(|(other, _)| other == like)) else {
            let problem = format!("{like:?} must be another system's table that is not like a third one");
            return Err(document.wrong(&format!("{name}.like"), problem));
        };
        if let Some(DeValue::Table(own)) = table.get_mut(name.as_str()).map(Spanned::get_mut) {
            own.remove("like");
            overlay(&mut whole, std::mem::replace(own, TomlTable::new()));
            *own = whole;
        }
    }
    Ok(())
}

impl System {
    /// The first rule that is broken, as the key below the system's table and the problem.
    fn check(&self) -> Result<(), (String, &'static str)> {
        if self.version.is_empty() {
            return Err((".version".to_owned(), "must be a command: a system without a version is not measured"));
        }
        if self.prepare.as_ref().is_some_and(|prepare| prepare.command.is_empty()) {
            return Err((".prepare.command".to_owned(), "must be a command"));
        }
        if self.register.command.is_empty() {
            return Err((".register.command".to_owned(), "must be a command"));
        }
        for (index, process) in self.start.iter().enumerate() {
            if process.command.is_empty() {
                return Err((format!(".start[{index}].command"), "must be a command"));
            }
            if !process.ready.iter().all(Check::is_one) {
                return Err((format!(".start[{index}].ready"), CHECK_RULE));
            }
        }
        if !self.ready.iter().all(Check::is_one) {
            return Err((".ready".to_owned(), CHECK_RULE));
        }
        if self.harvest.join_coldstarts && self.harvest.coldstarts.is_none() {
            return Err((
                ".harvest.join_coldstarts".to_owned(),
                "needs coldstarts: the creations that rows are joined to",
            ));
        }
        if !self.needs.iter().all(Need::is_one) {
            return Err((
                ".needs".to_owned(),
                "each must have one of program (with version and min_version, if any), file, cores, memory_mib, disk_mib, open_files",
            ));
        }
        Ok(())
    }

    /// Returns true if somebody else started it, so that the runner has no process of it.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.start.is_empty()
    }

    /// Its table as TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a system is made of tables of plain values")
    }
}

const CHECK_RULE: &str = "each must have exactly one of http, file, command";

impl Check {
    fn is_one(&self) -> bool {
        usize::from(self.http.is_some()) + usize::from(self.file.is_some()) + usize::from(!self.command.is_empty()) == 1
    }
}

#[cfg(test)]
mod tests;
