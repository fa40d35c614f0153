//! Slowdown in summaries: its definitions, the failure policies, and its percentiles over functions.

use serde::{Deserialize, Serialize};

/// A definition of slowdown. `docs/glossary.md` has the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowdownDefinition {
    /// Arithmetic mean of latency / execution time; the one in claims.
    Seed,
    /// Geometric mean of latency / run time, as the published artifact draws it.
    Artifact,
    /// Arithmetic mean of latency / run time without time-outs and functions with one invocation.
    MeanKept,
    /// 99th percentile of latency / execution time.
    Tail,
}

impl SlowdownDefinition {
    /// Its name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Artifact => "artifact",
            Self::MeanKept => "mean-kept",
            Self::Tail => "tail",
        }
    }
}

/// Treatment of failed invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// A failed invocation counts with the load time-out as its latency and the run time as its execution time.
    Penalise,
    /// A failed invocation is left out.
    Drop,
}

impl FailurePolicy {
    /// Its name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Penalise => "penalise",
            Self::Drop => "drop",
        }
    }
}

/// One definition of slowdown under one failure policy, over functions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowdownSummary {
    /// The definition.
    pub definition: SlowdownDefinition,
    /// The failure policy.
    pub failures: FailurePolicy,
    /// Functions that have a slowdown under it.
    pub functions: u64,
    /// Median over functions.
    pub p50: f64,
    /// 90th percentile over functions.
    pub p90: f64,
    /// 99th percentile over functions.
    pub p99: f64,
    /// Greatest.
    pub max: f64,
    /// Geometric mean over functions: the figure of `tail`. `None` where a slowdown is zero, which has none.
    pub geometric_mean: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        for definition in [
            SlowdownDefinition::Seed,
            SlowdownDefinition::Artifact,
            SlowdownDefinition::MeanKept,
            SlowdownDefinition::Tail,
        ] {
            assert_eq!(serde_json::to_value(definition).unwrap(), definition.name());
        }
        for policy in [FailurePolicy::Penalise, FailurePolicy::Drop] {
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.name());
        }
    }

    #[test]
    fn a_summary_of_an_unknown_definition_is_refused() {
        let text = r#"{"definition":"median","failures":"drop","functions":1,"p50":1.0,"p90":1.0,"p99":1.0,"max":1.0}"#;
        let error = serde_json::from_str::<SlowdownSummary>(text).unwrap_err().to_string();
        assert!(error.contains("unknown variant `median`") && error.contains("line 1 column"), "{error}");
    }
}
