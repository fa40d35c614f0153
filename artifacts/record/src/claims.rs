//! `claims.json`: each claim with its verdict.

use serde::{Deserialize, Serialize};

/// All claims that concern one run's experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Version of this document.
    pub schema_version: u32,
    /// The claims, in the order in which they are defined.
    pub claims: Vec<JudgedClaim>,
}

impl Claims {
    /// Whether every claim that was judged holds; one that was not measured says nothing either way.
    #[must_use]
    pub fn all_judged_hold(&self) -> bool {
        self.claims.iter().all(|claim| matches!(claim.verdict, Verdict::Held | Verdict::NotMeasured))
    }
}

/// What is said of a claim. One that was not run, or that the measurement does not settle, is never held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The whole interval of what was found reaches the bound.
    #[serde(rename = "held")]
    Held,
    /// The interval contains the bound, or no difference was seen: more repetitions may tell.
    #[serde(rename = "inconclusive")]
    Inconclusive,
    /// The whole interval lies below the bound, or the system failed at the least that was asked of it.
    #[serde(rename = "not held")]
    NotHeld,
    /// It was not measured, or not often enough.
    #[serde(rename = "not measured")]
    NotMeasured,
    /// An invariant of a repetition that it rests on is broken.
    #[serde(rename = "invalid")]
    Invalid,
}

impl Verdict {
    /// As it is written in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Inconclusive => "inconclusive",
            Self::NotHeld => "not held",
            Self::NotMeasured => "not measured",
            Self::Invalid => "invalid",
        }
    }
}

/// One claim as it was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedClaim {
    /// Its id.
    pub id: String,
    /// What is claimed.
    pub sentence: String,
    /// Who published it.
    pub source: String,
    /// The published ratio or value, in words.
    pub published: String,
    /// What must be found for it to hold at the run's scale, in words; empty where it has no bound there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub criterion: String,
    /// Id of the statistic compared.
    pub statistic: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in words; never empty unless held.
    pub reason: String,
    /// What was found: the ratio of the medians over repetitions, or, where the claim is about one system alone, the median
    /// of its statistic.
    pub found: Option<f64>,
    /// What `found` is counted in: `times` or `%`.
    pub unit: String,
    /// 95 % bootstrap interval of what was found, lower then upper end.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p of the Mann-Whitney test.
    pub p: Option<f64>,
    /// What a reader must know of how it was found; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The same ratio against other forms of the system compared with, without a bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<RatioBeside>,
}

/// A ratio that belongs next to a claim's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioBeside {
    /// The system compared with.
    pub against: String,
    /// The ratio of the medians over repetitions; `None` when it was not measured.
    pub ratio: Option<f64>,
    /// Its 95 % bootstrap interval, lower then upper end.
    pub interval: Option<(f64, f64)>,
    /// Why it was not measured; empty when it was.
    pub reason: String,
}
