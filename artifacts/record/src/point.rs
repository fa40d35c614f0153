//! The points of a run in its manifest: the part of each point's settings that readers of the run need, with its type.
//!
//! The runner writes them from the resolved definition. The manifest also holds that definition as text, for people and
//! for resuming; nobody else needs to interpret it. [`definition`] does so for manifests of versions that had only the
//! text.

mod definition;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use definition::points_of_definition;

/// One point with its effective settings. A value that is not on record is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its name, which is also that of its folders.
    pub name: String,
    /// The systems that were planned for it, in the order in which they take turns.
    pub systems: Vec<String>,
    /// Planned repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetitions: Option<u32>,
    /// The values that distinguish it from other points, as text by dotted keys of the definition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// The load.
    pub load: Load,
    /// Time-out of an invocation at the load generator.
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<Duration>,
    /// Time-out of an invocation in the system; absent: the system's default.
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub function_timeout: Option<Duration>,
    /// The sandboxes.
    pub sandbox: Sandbox,
}

/// The load of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Load {
    /// A trace that is replayed.
    Trace(TraceLoad),
    /// A constant rate.
    Rate(RateLoad),
}

/// A trace that is replayed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceLoad {
    /// Folder of a recorded trace; absent: the synthetic one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Name of the synthetic trace; set also where a recorded one takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<String>,
    /// Minutes of the trace that are replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<u32>,
    /// Time in which one minute of the trace is replayed.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub minute: Option<Duration>,
    /// First minute of the trace that is replayed, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_minute: Option<u32>,
    /// Functions in the sample; absent: all of the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// Greatest mean execution of the sample, in cores; absent: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cores: Option<f64>,
    /// Bound on run times; absent: none.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub max_run: Option<Duration>,
}

/// A constant rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLoad {
    /// Invocations per second; absent where they come in bursts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// Invocations that are due at the same moment; absent: they come one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Shortest time between two invocations of one function, so that each is cold; absent: they are meant to be warm.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
}

/// The sandboxes of a point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// Their runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Execution mode of the functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ExecutionMode>,
    /// Modelled delay of a creation; of hollow sandboxes only.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
}

/// A runtime, by the name that definitions and systems use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Runtime {
    /// A creation is a modelled delay, and the worker itself serves the invocations.
    Hollow,
    /// A sandbox is a child process of the worker.
    Process,
    /// One that only the measured system knows.
    Other(String),
}

/// Execution mode of a function: it computes or waits for the run time that an invocation requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionMode {
    /// It computes for that long.
    Spin,
    /// It waits for that long.
    Sleep,
}

impl Point {
    /// Name of the one point of a definition that varies nothing.
    pub const ONLY: &str = "replay";

    /// The trace; `None` for a constant rate.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceLoad> {
        match &self.load {
            Load::Trace(trace) => Some(trace),
            Load::Rate(_) => None,
        }
    }

    /// The constant rate; `None` for a trace.
    #[must_use]
    pub fn rate(&self) -> Option<&RateLoad> {
        match &self.load {
            Load::Trace(_) => None,
            Load::Rate(rate) => Some(rate),
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::Trace(TraceLoad::default())
    }
}

impl Sandbox {
    /// Modelled delay of a creation; `None` if it is not modelled.
    #[must_use]
    pub fn modelled_delay(&self) -> Option<Duration> {
        // Settings carry a delay for every runtime, and only hollow sandboxes obey it.
        (self.runtime == Some(Runtime::Hollow)).then(|| self.delay.unwrap_or_default())
    }
}

impl Runtime {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Hollow => "hollow",
            Self::Process => "process",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for Runtime {
    fn from(name: String) -> Self {
        match name.as_str() {
            "hollow" => Self::Hollow,
            "process" => Self::Process,
            _ => Self::Other(name),
        }
    }
}

impl From<Runtime> for String {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Other(name) => name,
            known => known.name().to_owned(),
        }
    }
}

impl ExecutionMode {
    /// Its name in definitions and on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Sleep => "sleep",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_written_with_units_and_without_what_it_lacks_and_read_again() {
        let rate = RateLoad { rate_per_s: Some(0.5), burst: None, cooldown: Some(Duration::from_millis(1_500)) };
        let point = Point {
            name: "rate-0.5".to_owned(),
            systems: vec!["a".to_owned(), "b".to_owned()],
            repetitions: Some(5),
            values: [("load.rate".to_owned(), "0.5".to_owned())].into(),
            load: Load::Rate(rate),
            load_timeout: Some(Duration::from_secs(90)),
            function_timeout: None,
            sandbox: Sandbox {
                runtime: Some(Runtime::Hollow),
                mode: Some(ExecutionMode::Sleep),
                delay: Some(Duration::from_millis(40)),
            },
        };
        let text = serde_json::to_string(&point).unwrap();
        let expected = r#"{"name":"rate-0.5","systems":["a","b"],"repetitions":5,"values":{"load.rate":"0.5"},"load":{"kind":"rate","rate_per_s":0.5,"cooldown":"1s 500ms"},"load_timeout":"1m 30s","sandbox":{"runtime":"hollow","mode":"sleep","delay":"40ms"}}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Point>(&text).unwrap(), point);
    }

    #[test]
    fn an_unknown_kind_of_load_is_refused_and_an_unknown_field_is_not() {
        let read = |load: &str| {
            let text = format!(r#"{{"name":"p","systems":[],"load":{load},"sandbox":{{}},"of_a_later_version":1}}"#);
            serde_json::from_str::<Point>(&text).map_err(|error| error.to_string())
        };
        assert!(read(r#"{"kind":"replay"}"#).unwrap_err().contains("unknown variant `replay`"));
        assert!(read("{}").unwrap_err().contains("missing field `kind`"));
        assert!(read(r#"{"kind":"trace","minute":"soon"}"#).unwrap_err().contains("invalid value: string \"soon\""));
        assert_eq!(read(r#"{"kind":"trace"}"#).unwrap().load, Load::default());
    }

    #[test]
    fn runtimes_keep_the_names_of_the_systems() {
        for name in ["hollow", "process", "containerd"] {
            let runtime = Runtime::from(name.to_owned());
            assert_eq!((runtime.name(), String::from(runtime.clone())), (name, name.to_owned()));
        }
        assert_eq!(Runtime::from("hollow".to_owned()), Runtime::Hollow);
        for mode in [ExecutionMode::Spin, ExecutionMode::Sleep] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
    }

    #[test]
    fn only_hollow_sandboxes_take_a_modelled_time() {
        let of = |runtime, delay| Sandbox { runtime, delay, mode: None }.modelled_delay();
        let delay = Some(Duration::from_millis(40));
        assert_eq!(of(Some(Runtime::Hollow), delay), delay);
        assert_eq!(of(Some(Runtime::Hollow), None), Some(Duration::ZERO));
        assert_eq!((of(Some(Runtime::Process), delay), of(None, delay)), (None, None));
    }
}
