//! Options for traces that are not as their format has them: a function that one file lacks, or has twice.

use std::{fmt, str::FromStr};

use crate::{Memory, RunTime, TraceError};

/// Options for reading a trace. A format ignores those it has no use for.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// Treatment of a function that one file lacks, or has without usable values.
    pub missing: Missing,
    /// Treatment of a function that one file has twice.
    pub duplicates: Duplicates,
    /// The day, if several were downloaded into one directory; `None` for the only one.
    pub day: Option<u32>,
    /// Run time of a function without one, under [`Missing::Default`].
    pub default_run_time: RunTime,
    /// Memory of a function without it, under [`Missing::Default`].
    pub default_memory: Memory,
}

impl Default for ReadOptions {
    /// Refuses; the defaults are what "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020) gives for the middle
    /// of all functions and applications: the median of its run-time fit, 0.68 s, and 170 MB.
    fn default() -> Self {
        Self {
            missing: Missing::Refuse,
            duplicates: Duplicates::Refuse,
            day: None,
            default_run_time: RunTime::constant(680.0),
            default_memory: Memory::constant(170.0),
        }
    }
}

/// Treatment of a function whose counts, run times or memory are missing or unusable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Refuse the trace.
    #[default]
    Refuse,
    /// Leave the function out.
    Drop,
    /// Give it the default run time or memory; a count that is missing is 0.
    Default,
}

/// Treatment of a function or application that one file has twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// Refuse the trace.
    #[default]
    Refuse,
    /// Take the first row.
    First,
    /// Add counts up, and average percentiles weighted by the rows' own numbers of samples.
    Merge,
}

impl Missing {
    /// Every choice.
    pub const ALL: [Missing; 3] = [Self::Refuse, Self::Drop, Self::Default];

    /// Its name in options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Drop => "drop",
            Self::Default => "default",
        }
    }
}

impl Duplicates {
    /// Every choice.
    pub const ALL: [Duplicates; 3] = [Self::Refuse, Self::First, Self::Merge];

    /// Its name in options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::First => "first",
            Self::Merge => "merge",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for Duplicates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Missing {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let found = Self::ALL.into_iter().find(|missing| missing.as_str() == text);
        let problem = || format!("expected refuse, drop or default, found {text:?}");
        found.ok_or_else(|| TraceError::Option { option: "missing", problem: problem() })
    }
}

impl FromStr for Duplicates {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let found = Self::ALL.into_iter().find(|duplicates| duplicates.as_str() == text);
        let problem = || format!("expected refuse, first or merge, found {text:?}");
        found.ok_or_else(|| TraceError::Option { option: "duplicates", problem: problem() })
    }
}
