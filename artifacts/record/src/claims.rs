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

/// What is said of a claim. One that was not run is never held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The bound holds, the interval is clear of it being chance.
    #[serde(rename = "held")]
    Held,
    /// It was measured and does not hold, or no difference was seen.
    #[serde(rename = "not held")]
    NotHeld,
    /// It was not measured, or not often enough.
    #[serde(rename = "not measured")]
    NotMeasured,
    /// A repetition it rests on is invalid.
    #[serde(rename = "invalid")]
    Invalid,
}

impl Verdict {
    /// As it is written in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
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
