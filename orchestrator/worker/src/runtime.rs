//! Runtimes: the ways to create and end sandboxes. A runtime is a folder below this file, and a line of the table here;
//! docs/extending/runtime.md has the steps.

pub(crate) mod hollow;
mod interface;
pub(crate) mod process;

use std::{error::Error, fmt, str::FromStr, sync::Arc};

use model::NodeSpec;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use service::Network;
use thiserror::Error;

pub(crate) use self::interface::{CreatedSandbox, CreationFailure, CreationRequest, Output, Progress, Runtime, Task};
use service::ConfigError;

use crate::Config;

/// The table, one line for each runtime: its name, which is also the name of its section in a worker's configuration;
/// the type of that section; and its factory. The first one is the default.
///
/// It is a macro because a line becomes an entry here and a typed field of [`Config`]: only a typed field lets an error
/// in a configuration file name its line and column.
macro_rules! runtime_table {
    ($define:ident) => {
        $define! {
            process: crate::runtime::process::ProcessConfig => crate::runtime::process::FACTORY,
            hollow: crate::runtime::hollow::HollowConfig => crate::runtime::hollow::FACTORY,
        }
    };
}
pub(crate) use runtime_table;

macro_rules! define_entries {
    ($($name:ident: $section:ty => $factory:expr,)*) => {
        static NAMES: &[&str] = &[$(stringify!($name)),*];
        static ENTRIES: &[Entry] = &[$(Entry { name: stringify!($name), factory: $factory }),*];
    };
}
runtime_table!(define_entries);

/// An entry of the table.
struct Entry {
    name: &'static str,
    factory: RuntimeFactory,
}

/// The functions that make a runtime from a worker's configuration.
pub(crate) struct RuntimeFactory {
    /// Checks the bounds of the runtime's section. Called for every runtime, also for those that are not chosen.
    pub(crate) check: fn(&Config) -> Result<(), ConfigError>,
    /// The nodes that the worker announces, at least one. Commands name a node by its index here.
    pub(crate) nodes: fn(&Config) -> Vec<NodeSpec>,
    /// Binds and prepares everything that can fail; nothing is served before [`Runtime::serve`].
    pub(crate) build: fn(BuildContext) -> Task<BuildResult>,
}

pub(crate) type BuildResult = Result<Arc<dyn Runtime>, RuntimeError>;

/// The inputs for building a runtime.
pub(crate) struct BuildContext {
    /// Checked, and with a name.
    pub(crate) config: Config,
    /// As [`RuntimeFactory::nodes`] returned them.
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) network: Arc<dyn Network>,
    /// For everything random; differs between workers.
    pub(crate) seed: u64,
}

/// A runtime could not be built.
#[derive(Debug, Error)]
#[error("{subject}")]
pub struct RuntimeError {
    /// The configuration key or the resource that is the matter.
    subject: String,
    source: Box<dyn Error + Send + Sync>,
}

impl RuntimeError {
    pub(crate) fn new(subject: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { subject: subject.into(), source: source.into() }
    }
}

/// A runtime of the table. Parsed from its name.
#[derive(Clone, Copy)]
pub struct RuntimeKind(&'static Entry);

impl RuntimeKind {
    /// Every runtime, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().map(Self)
    }

    /// Its name, which is also the name of its section in a worker's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    pub(crate) fn factory(self) -> &'static RuntimeFactory {
        &self.0.factory
    }
}

impl Default for RuntimeKind {
    fn default() -> Self {
        Self(&ENTRIES[0])
    }
}

impl PartialEq for RuntimeKind {
    fn eq(&self, other: &Self) -> bool {
        // Names are unique in the table; function pointers have no reliable equality.
        self.name() == other.name()
    }
}

impl Eq for RuntimeKind {}

impl fmt::Debug for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RuntimeKind {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::all().find(|runtime| runtime.name() == text).ok_or_else(|| {
            let problem = format!("is {text:?}, expected {}", NAMES.join(" or "));
            ConfigError { key: "runtime", problem }
        })
    }
}

impl Serialize for RuntimeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for RuntimeKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| de::Error::unknown_variant(&name, NAMES))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const EXAMPLE: &str = include_str!("../../dirigent/examples/worker.toml");
    const PAGE: &str = include_str!("../../../docs/extending/runtime.md");

    #[tokio::test]
    async fn every_runtime_is_built_from_the_example_configuration() {
        for kind in RuntimeKind::all() {
            assert!(EXAMPLE.contains(&format!("\n[{kind}]\n")), "the example has no section [{kind}]");
            let data_dir = tempfile::tempdir().unwrap();
            let mut config: Config = toml::from_str(EXAMPLE).unwrap();
            (config.runtime, config.admin) = (kind, service::ANY_LOOPBACK);
            config.data_dir = data_dir.path().to_owned();
            service::Config::validate(&config).unwrap();
            let started = crate::Service::start(config, Arc::new(service::OsNetwork)).await;
            assert!(started.is_ok(), "{kind}: {:?}", started.err());
        }
    }

    #[test]
    fn every_runtime_announces_nodes_with_names_of_their_own() {
        for kind in RuntimeKind::all() {
            let config = Config { runtime: kind, name: "w".to_owned(), ..Config::default() };
            let nodes = config.nodes();
            assert!(!nodes.is_empty(), "{kind} has no node");
            for (index, node) in nodes.iter().enumerate() {
                assert!(nodes[..index].iter().all(|other| other.name != node.name), "{kind}: {} twice", node.name);
            }
        }
    }

    #[test]
    fn every_runtime_is_in_the_docs() {
        for kind in RuntimeKind::all() {
            assert!(PAGE.contains(&format!("| `{kind}` |")), "docs/extending/runtime.md has no row for {kind}");
        }
    }

    #[test]
    fn a_name_is_read_and_written_and_an_unknown_one_is_refused_with_the_known_ones() {
        for kind in RuntimeKind::all() {
            assert_eq!(kind.name().parse(), Ok(kind));
            let written = toml::to_string(&Config { runtime: kind, ..Config::default() }).unwrap();
            assert_eq!(toml::from_str::<Config>(&written).unwrap().runtime, kind);
        }
        let typed = "docker".parse::<RuntimeKind>().unwrap_err();
        let configured = toml::from_str::<Config>("runtime = \"docker\"").unwrap_err();
        assert!(configured.span().is_some_and(|span| span == (10..18)), "{configured}");
        for refused in [typed.to_string(), configured.to_string()] {
            for name in NAMES {
                assert!(refused.contains("docker") && refused.contains(name), "{refused}");
            }
        }
    }

    #[test]
    fn an_unknown_key_of_a_section_is_refused_with_its_place() {
        for kind in RuntimeKind::all() {
            let text = format!("seed = 1\n[{kind}]\ncolour = 1\n");
            let refused = toml::from_str::<Config>(&text).unwrap_err();
            let at = text.find("colour").unwrap();
            assert_eq!(refused.span().map(|span| span.start), Some(at), "{refused}");
            assert!(refused.message().contains("unknown field `colour`, expected"), "{refused}");
        }
        let refused = toml::from_str::<Config>("[docker]\n").unwrap_err().to_string();
        for name in NAMES {
            assert!(refused.contains(&format!("`{name}`")), "the known sections are named: {refused}");
        }
    }
}
