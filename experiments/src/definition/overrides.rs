//! The command line's changes to a definition; kept in `plan.json`, so that a resumed run has the same ones.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use terminal::Document;

use crate::{
    definition::{
        lens::Override,
        points::{Point, SYSTEMS},
        settings::MAX_SEED,
    },
    exit::UsageError,
};

/// Options of `repro run` and `repro plan` that replace values of the definition.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Run the version that takes a few minutes: apply the definition's table [quick]
    #[arg(long)]
    pub quick: bool,
    /// Replay this trace (a folder in Azure 2019 form) instead of the synthetic one; for a load that is a trace
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Minutes of trace to replay, warm-up included; for a load that is a trace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub minutes: Option<u32>,
    /// First minute of the trace to replay, from 0; for a load that is a trace
    #[arg(long, value_name = "M")]
    pub start_minute: Option<u32>,
    /// Rates per second to measure, instead of the definition's; points with other rates are left out; for a load at a
    /// constant rate
    #[arg(long, value_name = "R1,R2", value_delimiter = ',', value_parser = rate)]
    pub rates: Vec<f64>,
    /// Length of the measured window in seconds, for a load at a constant rate; below 60, no rate counts as sustained
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// Points to measure, by the names that `repro plan` shows; default: all
    #[arg(long, value_name = "P1,P2", value_delimiter = ',')]
    pub points: Vec<String>,
    /// Number of functions: the size of the seeded sample, for a load that is a trace; the functions invoked in turn, at
    /// a constant warm rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub functions: Option<u32>,
    /// Most cores that the functions of the sample use on average; for a load that is a trace
    #[arg(long, value_name = "CORES")]
    pub max_cores: Option<f64>,
    /// Runtime of the sandboxes, such as hollow or process; the definition's table of that runtime applies too
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Use of the run time by the functions
    #[arg(long, value_enum)]
    pub mode: Option<ModeName>,
    /// Seed of the first repetition; each further one uses the next number
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of repetitions of every point
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repetitions: Option<u32>,
    /// Value of a parameter of the systems that have it, for example their version; may be repeated
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// Systems to measure, instead of the definition's
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub systems: Vec<String>,
}

/// A [`record::ExecutionMode`] as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    /// Compute
    Spin,
    /// Wait
    Sleep,
}

/// A parameter of systems, as typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name: of letters, digits, `_` and `-`.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        if name.is_empty() || !name.chars().all(is_part) {
            return Err(format!("expected a name of letters, digits, `_` and `-`, found {name:?}"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl Parameter {
    /// The setting that it sets.
    fn path(&self) -> String {
        format!("parameters.{}", self.name)
    }
}

impl Overrides {
    /// Makes the trace's path absolute: a resumed run may start in another folder.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn absolute(&self) -> anyhow::Result<Self> {
        let mut absolute = self.clone();
        if let Some(trace) = &self.trace {
            let found = trace.canonicalize();
            absolute.trace = Some(found.map_err(|error| UsageError(format!("--trace {}: {error}", trace.display())))?);
        }
        Ok(absolute)
    }

    /// The typed rates as a `[vary]` table: they become points like the definition's own.
    #[must_use]
    pub fn axes(&self) -> Option<Document> {
        let rates: Vec<String> = self.rates.iter().map(ToString::to_string).collect();
        let text = format!("[vary]\nload.rate = [{}]\n", rates.join(", "));
        (!rates.is_empty()).then(|| Document::new(Path::new("--rates"), text))
    }

    /// Selects points, and the systems that each of them measures; `own` are the definition's systems.
    ///
    /// # Errors
    /// If a selected point or system does not exist, or no point is left.
    pub fn select(&self, points: &mut Vec<Point>, own: &[String]) -> Result<(), UsageError> {
        self.select_named(points)?;
        self.select_systems(points, own)?;
        self.select_rates(points)?;
        self.check_systems(points)?;
        self.check_parameters(points)
    }

    /// Keeps the named points, in the definition's order.
    fn select_named(&self, points: &mut Vec<Point>) -> Result<(), UsageError> {
        if let Some(unknown) = self.points.iter().find(|name| !points.iter().any(|point| point.name == **name)) {
            let known: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
            return Err(UsageError(format!(
                "--points: no point is called {unknown:?}; there are: {}",
                known.join(", ")
            )));
        }
        points.retain(|point| self.points.is_empty() || self.points.contains(&point.name));
        Ok(())
    }

    /// Selects the systems that each point measures: those typed, else the definition's own. A point that names systems
    /// measures only those of them, and is left out if none remains. If some points name systems, the others are for the
    /// definition's own systems only: the rate that one system sustains may be far above what another can.
    fn select_systems(&self, points: &mut Vec<Point>, own: &[String]) -> Result<(), UsageError> {
        let chosen = if self.systems.is_empty() { own } else { &self.systems };
        let is_twice = |name: &&String| chosen.iter().filter(|other| other == name).count() > 1;
        if let Some(twice) = self.systems.iter().find(is_twice) {
            return Err(UsageError(format!("--systems: names {twice} twice")));
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let some_name_theirs = points.iter().any(|point| point.values.contains_key(SYSTEMS));
        let of_others: Vec<String> = chosen.iter().filter(|system| own.contains(system)).cloned().collect();
        for point in points.iter_mut() {
            if point.values.contains_key(SYSTEMS) {
                point.settings.systems.retain(|system| chosen.contains(system));
            } else if some_name_theirs {
                point.settings.systems.clone_from(&of_others);
            } else {
                chosen.clone_into(&mut point.settings.systems);
            }
        }
        points.retain(|point| !point.settings.systems.is_empty());
        if points.is_empty() {
            let option = if self.systems.is_empty() { "" } else { "--systems: " };
            return Err(UsageError(format!("{option}no point measures {}", chosen.join(", "))));
        }
        Ok(())
    }

    /// Leaves out listed points with another rate of their own, if rates and no points were typed: 1,000 per second is
    /// meaningless for a system that sustains two.
    fn select_rates(&self, points: &mut Vec<Point>) -> Result<(), UsageError> {
        if self.rates.is_empty() || !self.points.is_empty() {
            return Ok(());
        }
        let other = |point: &Point| {
            let own = point.settings.load.rate().filter(|_| point.values.contains_key("load.rate"))?;
            Some(own.rate_per_s).filter(|rate| !self.rates.contains(rate))
        };
        let known: Vec<String> = points.iter().filter_map(other).map(|rate| rate.to_string()).collect();
        points.retain(|point| other(point).is_none());
        if points.is_empty() {
            let problem = format!("--rates: these systems are measured at {} per second", known.join(", "));
            return Err(UsageError(problem));
        }
        Ok(())
    }

    /// Refuses a typed system that no selected point measures: the user must not learn from a finished run that it is missing.
    fn check_systems(&self, points: &[Point]) -> Result<(), UsageError> {
        let measured: BTreeSet<&String> = points.iter().flat_map(|point| &point.settings.systems).collect();
        let Some(missing) = self.systems.iter().find(|system| !measured.contains(system)) else { return Ok(()) };
        let measured: Vec<&str> = measured.into_iter().map(String::as_str).collect();
        let problem = format!("--systems: no point measures {missing}; those chosen measure {}", measured.join(", "));
        Err(UsageError(problem))
    }

    /// Refuses a parameter that is typed twice, or that every selected point has a value of its own for: a value would be
    /// ignored.
    fn check_parameters(&self, points: &[Point]) -> Result<(), UsageError> {
        for (index, parameter) in self.parameters.iter().enumerate() {
            let name = &parameter.name;
            if self.parameters[..index].iter().any(|other| other.name == *name) {
                return Err(UsageError(format!("--parameter {name}: is given twice")));
            }
            if points.iter().all(|point| point.values.contains_key(&parameter.path())) {
                return Err(UsageError(format!("--parameter {name}: every point has a value of its own")));
            }
        }
        Ok(())
    }

    /// The overrides of a point's settings. A point that is distinguished by its number of functions, or by a parameter,
    /// keeps it.
    #[must_use]
    pub fn of_settings(&self, point: &Point) -> Vec<Override> {
        let functions = self.functions.filter(|_| !point.values.contains_key("load.functions"));
        let all = [
            self.trace.as_ref().map(|trace| Override::new("--trace", "load.trace", trace)),
            self.minutes.map(|minutes| Override::new("--minutes", "load.minutes", minutes)),
            self.start_minute.map(|minute| Override::new("--start-minute", "load.start_minute", minute)),
            self.seconds.map(|seconds| Override::new("--seconds", "load.seconds", seconds)),
            functions.map(|functions| Override::new("--functions", "load.functions", functions)),
            self.max_cores.map(|cores| Override::new("--max-cores", "load.max_cores", cores)),
            self.runtime.as_ref().map(|runtime| Override::new("--runtime", "sandbox.runtime", runtime)),
            self.mode.map(|mode| Override::new("--mode", "sandbox.mode", mode)),
            // TOML has no integer above 2^63 − 1; the bound of seeds is below, and refuses this one as well.
            self.seed.map(|seed| Override::new("--seed", "seed", seed.min(MAX_SEED + 1))),
            self.repetitions.map(|repetitions| Override::new("--repetitions", "repetitions", repetitions)),
        ];
        let parameters = self.parameters.iter().filter(|one| !point.values.contains_key(&one.path()));
        let parameters = parameters.map(|one| Override::new("--parameter", one.path(), &one.value));
        all.into_iter().flatten().chain(parameters).collect()
    }
}

/// A rate as typed.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("expected a rate above 0 per second".to_owned()) }
}
