//! The load: a trace replayed, or a constant rate.
//!
//! In a definition both are one table `[load]` whose `kind` determines its keys; here they are two types, so that no code can
//! ask a constant rate for its minutes of trace.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::definition::written_load::WrittenLoad;

/// Arrivals at equal gaps, without randomness.
pub const EQUIDISTANT: &str = "equidistant";

/// The schedule and how it is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenLoad", into = "WrittenLoad")]
pub struct Load {
    /// Source of the invocations.
    pub source: Source,
    /// Length of the first part, which statistics exclude; absent: as [`Load::warmup`] says.
    pub warmup: Option<Duration>,
    /// Arrival model.
    pub arrivals: String,
    /// Protocol of the load generator: `http1` or `h2c`.
    pub protocol: Protocol,
    /// Connections that are open before the first invocation is due and are used in turn; 0: opened on demand, the
    /// last one used first.
    pub connections: u32,
    /// Time-out of an invocation at the load generator.
    pub timeout: Duration,
}

/// Source of invocations.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A trace, real or synthetic.
    Trace(Trace),
    /// A constant rate.
    Rate(Rate),
}

/// A trace to replay.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Folder of a trace in Azure 2019 form; absent: the built-in synthetic one.
    pub trace: Option<PathBuf>,
    /// The synthetic trace, as the load generator calls it.
    pub synthetic: String,
    /// Minutes of trace to replay, at least 1.
    pub minutes: u32,
    /// Duration of one minute of the trace; a shorter one compresses the gaps between invocations, not their run times.
    pub minute: Duration,
    /// First minute of the trace to replay, from 0.
    pub start_minute: u32,
    /// Number of functions to sample from the trace, or to generate if it is synthetic.
    pub functions: Option<u32>,
    /// Greatest mean execution of the sample, in cores.
    pub max_cores: Option<f64>,
    /// Upper bound to which longer run times are cut; absent: no bound.
    pub max_run: Option<Duration>,
}

/// A constant rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate {
    /// Invocations per second.
    pub rate_per_s: f64,
    /// Invocations that come in bursts; absent: one by one.
    pub bursts: Option<Bursts>,
    /// Length of the measured window, which begins after the warm-up, in seconds.
    pub seconds: u32,
    /// Functions to invoke.
    pub calls: Calls,
    /// Execution time of every invocation.
    pub run: Duration,
}

/// Bursts: several invocations due at the same moment, and the next ones some time later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// Number of invocations.
    pub size: u32,
    /// Time from one burst to the next.
    pub every: Duration,
}

impl Bursts {
    /// Their average rate, per second.
    #[must_use]
    pub fn rate_per_s(&self) -> f64 {
        f64::from(self.size) / self.every.as_secs_f64()
    }
}

/// Functions that a constant rate invokes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// A fixed number, invoked in turn: after the first invocations their sandboxes are warm.
    Warm {
        /// Number of functions.
        functions: u32,
    },
    /// As many as are needed for the cool-down, invoked in turn: ⌈rate × cool-down⌉.
    Cold {
        /// Shortest time between two invocations of one function; longer than the system keeps an idle sandbox.
        cooldown: Duration,
    },
}

/// Longest default warm-up of a trace, in seconds.
const MAX_DEFAULT_WARMUP_S: u64 = 600;

/// A key of the definition, true if its rule holds, and the rule.
pub type Rule = (&'static str, bool, &'static str);

impl Load {
    /// Length of the schedule.
    #[must_use]
    pub fn length(&self) -> Duration {
        match &self.source {
            Source::Trace(trace) => trace.minute * trace.minutes,
            Source::Rate(rate) => self.warmup() + Duration::from_secs(rate.seconds.into()),
        }
    }

    /// Length of the warm-up: by default min(10 min, a third) of a trace, and none at a constant rate.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        match &self.source {
            Source::Trace(_) => {
                let third = self.length() / 3;
                self.warmup.unwrap_or_else(|| third.min(Duration::from_secs(MAX_DEFAULT_WARMUP_S)))
            }
            Source::Rate(_) => self.warmup.unwrap_or_default(),
        }
    }

    /// The trace, unless it is a constant rate.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        match &self.source {
            Source::Trace(trace) => Some(trace),
            Source::Rate(_) => None,
        }
    }

    /// The constant rate, unless it is a trace.
    #[must_use]
    pub fn rate(&self) -> Option<&Rate> {
        match &self.source {
            Source::Trace(_) => None,
            Source::Rate(rate) => Some(rate),
        }
    }

    /// Bounds of its values.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let mut rules = vec![
            ("load.timeout", !self.timeout.is_zero(), "must be above 0"),
            ("load.connections", self.connections == 0 || self.protocol == Protocol::Http1, "needs protocol http1"),
            ("load.connections", self.connections <= MAX_CONNECTIONS, "must be at most 10000"),
        ];
        match &self.source {
            Source::Trace(trace) => rules.extend(trace.rules()),
            Source::Rate(rate) => rules.extend(rate.rules()),
        }
        rules.push(("load.warmup", self.warmup() < self.length(), "must be shorter than the load"));
        rules
    }
}

/// Most connections opened beforehand: half of the usual limit of descriptors per process.
const MAX_CONNECTIONS: u32 = 10_000;

impl Trace {
    fn rules(&self) -> [Rule; 5] {
        [
            ("load.minutes", self.minutes >= 1, "must be at least 1"),
            ("load.minute", !self.minute.is_zero(), "must be above 0"),
            ("load.functions", self.functions != Some(0), "must be at least 1"),
            (
                "load.max_cores",
                self.max_cores.is_none() || self.functions.is_some(),
                "needs load.functions (--functions)",
            ),
            ("load.max_cores", self.max_cores.is_none_or(|cores| cores > 0.0), "must be above 0"),
        ]
    }
}

impl Rate {
    fn rules(&self) -> [Rule; 5] {
        let (functions, cools) = match self.calls {
            Calls::Warm { functions } => (functions, true),
            Calls::Cold { cooldown } => (1, cooldown > self.run),
        };
        [
            ("load.rate", self.rate_per_s.is_finite() && self.rate_per_s > 0.0, "must be above 0"),
            ("load.burst", self.bursts.is_none_or(|bursts| bursts.size >= 1), "must be at least 1"),
            ("load.seconds", self.seconds >= 1, "must be at least 1"),
            ("load.functions", functions >= 1, "must be at least 1"),
            ("load.cooldown", cools, "must be longer than load.run"),
        ]
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
