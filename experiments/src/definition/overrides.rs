//! What the command line changes about a definition; kept in `plan.json`, so that a resumed run changes the same.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    definition::settings::{Mode, Settings},
    exit::UsageError,
};

/// Options of `repro run` and `repro plan` that replace values of the definition.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// The few-minute version: what the definition's [quick] table changes
    #[arg(long)]
    pub quick: bool,
    /// Replay this trace (a folder in Azure 2019 form) instead of the synthetic one
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Minutes of trace to replay, warm-up included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub minutes: Option<u32>,
    /// First minute of the trace to replay, from 0
    #[arg(long, value_name = "M")]
    pub start_minute: Option<u32>,
    /// Take a seeded sample of this many functions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub functions: Option<u32>,
    /// Bound the sample's mean execution, in cores
    #[arg(long, value_name = "CORES")]
    pub max_cores: Option<f64>,
    /// What functions run in, for example hollow or process; also applies the definition's table for it
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Whether functions compute (spin) or wait (sleep)
    #[arg(long, value_enum)]
    pub mode: Option<ModeName>,
    /// Seed of everything random
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
    pub fn anchored(&self) -> anyhow::Result<Self> {
        let mut anchored = self.clone();
        if let Some(trace) = &self.trace {
            let found = trace.canonicalize();
            anchored.trace = Some(found.map_err(|error| UsageError(format!("--trace {}: {error}", trace.display())))?);
        }
        Ok(anchored)
    }

    /// Replaces in `settings` what was typed.
    pub fn apply(&self, settings: &mut Settings) {
        let load = &mut settings.load;
        load.trace = self.trace.clone().or(load.trace.take());
        load.minutes = self.minutes.unwrap_or(load.minutes);
        load.start_minute = self.start_minute.unwrap_or(load.start_minute);
        load.functions = self.functions.or(load.functions);
        load.max_cores = self.max_cores.or(load.max_cores);
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
        if !self.systems.is_empty() {
            settings.systems.clone_from(&self.systems);
        }
    }
}
