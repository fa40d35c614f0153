//! What the command line changes about a definition; kept in `plan.json`, so that a resumed run changes the same.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    definition::{
        document::Document,
        load::{Calls, Source},
        points::{Point, SYSTEMS},
        settings::Mode,
    },
    exit::UsageError,
};

/// Options of `repro run` and `repro plan` that replace values of the definition.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// The few-minute version: what the definition's [quick] table changes
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
    /// Constant rates to send at, per second, instead of the definition's; points with another are left
    /// out; for a load at a constant rate
    #[arg(long, value_name = "R1,R2", value_delimiter = ',', value_parser = rate)]
    pub rates: Vec<f64>,
    /// Length of the measured window, for a load at a constant rate; below 60 nothing is called sustained
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,
    /// Points to measure, by the names that `repro plan` shows; default: all
    #[arg(long, value_name = "P1,P2", value_delimiter = ',')]
    pub points: Vec<String>,
    /// Take a seeded sample of this many functions, for a load that is a trace; at a constant warm rate: call so many in
    /// turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub functions: Option<u32>,
    /// Bound the sample's mean execution, in cores; for a load that is a trace
    #[arg(long, value_name = "CORES")]
    pub max_cores: Option<f64>,
    /// What functions run in, for example hollow or process; also applies the definition's table for it
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Whether functions compute (spin) or wait (sleep)
    #[arg(long, value_enum)]
    pub mode: Option<ModeName>,
    /// Seed of everything random in the first repetition; each next repetition has the next number
    #[arg(long)]
    pub seed: Option<u64>,
    /// Repetitions of every point
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repetitions: Option<u32>,
    /// Systems to measure, instead of the definition's
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub systems: Vec<String>,
}

/// A [`Mode`] as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    /// Functions compute
    Spin,
    /// Functions wait
    Sleep,
}

impl Overrides {
    /// The same, with the trace's path made absolute: a resumed run may start from another folder.
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn absolute(&self) -> anyhow::Result<Self> {
        let mut absolute = self.clone();
        if let Some(trace) = &self.trace {
            let found = trace.canonicalize();
            absolute.trace = Some(found.map_err(|error| UsageError(format!("--trace {}: {error}", trace.display())))?);
        }
        Ok(absolute)
    }

    /// A key of the settings as whoever typed its value knows it: by the option, if there was one.
    #[must_use]
    pub fn name_of<'a>(&self, key: &'a str) -> &'a str {
        match key {
            "load.minutes" if self.minutes.is_some() => "--minutes",
            "load.max_cores" if self.max_cores.is_some() => "--max-cores",
            "load.functions" if self.functions.is_some() => "--functions",
            "load.rate" if !self.rates.is_empty() => "--rates",
            "load.seconds" if self.seconds.is_some() => "--seconds",
            "load.warmup" if self.minutes.is_some() => "with these --minutes load.warmup",
            "load.warmup" if self.seconds.is_some() => "with these --seconds load.warmup",
            "sandbox.runtime" if self.runtime.is_some() => "--runtime",
            "repetitions" if self.repetitions.is_some() => "--repetitions",
            "seed" if self.seed.is_some() => "--seed",
            key => key,
        }
    }

    /// What was typed for `[vary]`, in the language of definitions.
    #[must_use]
    pub fn axes(&self) -> Option<Document> {
        let rates: Vec<String> = self.rates.iter().map(ToString::to_string).collect();
        let text = format!("[vary]\nload.rate = [{}]\n", rates.join(", "));
        (!rates.is_empty()).then(|| Document::new(Path::new("--rates"), text))
    }

    /// The points that were asked for, in their own order.
    ///
    /// # Errors
    /// When one is not there.
    pub fn choose(&self, mut points: Vec<Point>) -> Result<Vec<Point>, UsageError> {
        if let Some(unknown) = self.points.iter().find(|name| !points.iter().any(|point| point.name == **name)) {
            let known: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
            return Err(UsageError(format!(
                "--points: no point is called {unknown:?}; there are: {}",
                known.join(", ")
            )));
        }
        points.retain(|point| self.points.is_empty() || self.points.contains(&point.name));
        Ok(points)
    }

    /// Settles which systems each point measures: those typed, else the definition's own. A point that names some
    /// measures those of them that it names, and is left out when there are none. Where some points name theirs, the
    /// others are for the definition's own systems: what one system sustains may be far beyond another.
    ///
    /// # Errors
    /// When no point is left.
    pub fn choose_systems(&self, points: &mut Vec<Point>, own: &[String]) -> Result<(), UsageError> {
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

    /// Leaves out, when rates were typed and no points, what is listed with another rate of its own: 1,000 per second means
    /// nothing for a system that sustains two.
    ///
    /// # Errors
    /// When no point is left.
    pub fn choose_rates(&self, points: &mut Vec<Point>) -> Result<(), UsageError> {
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

    /// Refuses a typed system that no point is left for: nobody should find out from a finished run that it is missing.
    ///
    /// # Errors
    /// When there is one.
    pub fn check_systems(&self, points: &[Point]) -> Result<(), UsageError> {
        let measured: BTreeSet<&String> = points.iter().flat_map(|point| &point.settings.systems).collect();
        let Some(missing) = self.systems.iter().find(|system| !measured.contains(system)) else { return Ok(()) };
        let measured: Vec<&str> = measured.into_iter().map(String::as_str).collect();
        let problem = format!("--systems: no point measures {missing}; those chosen measure {}", measured.join(", "));
        Err(UsageError(problem))
    }

    /// Replaces in a point's settings what was typed; how many functions it calls stays where that is what makes the
    /// point different.
    ///
    /// # Errors
    /// When an option is for another kind of load.
    pub fn apply(&self, point: &mut Point) -> Result<(), UsageError> {
        let settings = &mut point.settings;
        let functions = self.functions.filter(|_| !point.values.contains_key("load.functions"));
        self.apply_to_load(&mut settings.load.source, functions)?;
        settings.seed = self.seed.unwrap_or(settings.seed);
        settings.repetitions = self.repetitions.unwrap_or(settings.repetitions);
        if let Some(runtime) = &self.runtime {
            settings.sandbox.runtime.clone_from(runtime);
        }
        if let Some(mode) = self.mode {
            settings.sandbox.mode = match mode {
                ModeName::Spin => Mode::Spin,
                ModeName::Sleep => Mode::Sleep,
            };
        }
        Ok(())
    }

    fn apply_to_load(&self, source: &mut Source, functions: Option<u32>) -> Result<(), UsageError> {
        let misplaced = |options: &[(&str, bool)], why: &str| match options.iter().find(|(_, typed)| *typed) {
            Some((option, _)) => Err(UsageError(format!("--{option} is for {why}"))),
            None => Ok(()),
        };
        match source {
            Source::Trace(load) => {
                let options = [("seconds", self.seconds.is_some())];
                misplaced(&options, "a constant rate, and this load is a trace")?;
                load.trace = self.trace.clone().or(load.trace.take());
                load.minutes = self.minutes.unwrap_or(load.minutes);
                load.start_minute = self.start_minute.unwrap_or(load.start_minute);
                load.functions = functions.or(load.functions);
                load.max_cores = self.max_cores.or(load.max_cores);
            }
            Source::Rate(load) => {
                let options = [
                    ("trace", self.trace.is_some()),
                    ("minutes", self.minutes.is_some()),
                    ("start-minute", self.start_minute.is_some()),
                    ("max-cores", self.max_cores.is_some()),
                ];
                misplaced(&options, "a trace, and this load has a constant rate")?;
                load.seconds = self.seconds.unwrap_or(load.seconds);
                match (&mut load.calls, functions) {
                    (Calls::Warm { functions }, Some(typed)) => *functions = typed,
                    (Calls::Cold { .. }, Some(_)) => {
                        let why = "a trace or warm calls; how many functions cold calls need follows from the rate";
                        return Err(UsageError(format!("--functions is for {why}")));
                    }
                    (_, None) => {}
                }
            }
        }
        Ok(())
    }
}

/// A rate as typed.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("expected a rate above 0 per second".to_owned()) }
}
