//! `claims.json`: each claim with the outcome of its evaluation.

use serde::{Deserialize, Serialize};

/// All claims that concern one run's experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Version of this document.
    pub schema_version: u32,
    /// The claims, in the order in which they are defined.
    pub claims: Vec<EvaluatedClaim>,
}

impl Claims {
    /// Returns true if every claim that could be evaluated holds. A claim that was not measured is no evidence either way, so that
    /// a run of one system does not fail for the claims about the others.
    #[must_use]
    pub fn all_evaluated_hold(&self) -> bool {
        self.claims.iter().all(|claim| matches!(claim.outcome, ClaimOutcome::Held | ClaimOutcome::NotMeasured))
    }
}

/// The outcome of evaluating a claim. A claim that was not measured, or that the measurement leaves open, is never `Held`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClaimOutcome {
    /// The whole interval of the estimate reaches the bound.
    #[serde(rename = "held")]
    Held,
    /// The interval contains the bound, or the difference is not significant: more repetitions may decide it.
    #[serde(rename = "inconclusive")]
    Inconclusive,
    /// The whole interval is below the bound, or the system failed at the lowest load.
    #[serde(rename = "not held")]
    NotHeld,
    /// The claim's points were not measured, or in too few repetitions.
    #[serde(rename = "not measured")]
    NotMeasured,
    /// An invariant of a repetition that the claim uses is broken.
    #[serde(rename = "invalid")]
    Invalid,
}

impl ClaimOutcome {
    /// The name in tables and in `claims.json`.
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

/// One claim with its estimate and outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluatedClaim {
    /// Unique over all claims.
    pub id: String,
    /// The claim as one sentence.
    pub sentence: String,
    /// The publication.
    pub source: String,
    /// The published ratio or value, in words.
    pub published: String,
    /// The bound at the run's scale, in words; empty if the claim has no bound there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub criterion: String,
    /// Id of the statistic compared.
    pub statistic: String,
    /// Evaluation against the bound.
    #[serde(rename = "verdict")]
    pub outcome: ClaimOutcome,
    /// The reason for the outcome, in words; empty only if held.
    pub reason: String,
    /// The estimate: the ratio of the medians over repetitions, or, for a claim about a single system, the median of its
    /// statistic.
    pub found: Option<f64>,
    /// Unit of `found`, for example `times` or `%`.
    pub unit: String,
    /// 95 % bootstrap interval of `found`, lower then upper end.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p of the Mann-Whitney test.
    pub p: Option<f64>,
    /// Caveats about the repetitions behind the estimate; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The same ratio against other variants of the reference system, without a bound.
    #[serde(rename = "beside", default, skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<SecondaryRatio>,
}

/// The ratio of a claim against another variant of its reference system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecondaryRatio {
    /// The reference system.
    pub against: String,
    /// The ratio of the medians over repetitions; `None` if it was not measured.
    pub ratio: Option<f64>,
    /// 95 % bootstrap interval of `ratio`, lower then upper end.
    pub interval: Option<(f64, f64)>,
    /// The reason why it was not measured; empty if it was.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ClaimOutcome; 5] = [
        ClaimOutcome::Held,
        ClaimOutcome::Inconclusive,
        ClaimOutcome::NotHeld,
        ClaimOutcome::NotMeasured,
        ClaimOutcome::Invalid,
    ];

    fn claim(outcome: ClaimOutcome) -> EvaluatedClaim {
        EvaluatedClaim {
            id: "c".to_owned(),
            sentence: "It is faster.".to_owned(),
            source: "a paper".to_owned(),
            published: "twice".to_owned(),
            criterion: String::new(),
            statistic: "latency.p50".to_owned(),
            outcome,
            reason: String::new(),
            found: Some(2.0),
            unit: "times".to_owned(),
            interval: Some((1.5, 2.5)),
            p: None,
            note: String::new(),
            secondary: Vec::new(),
        }
    }

    #[test]
    fn claims_that_were_not_measured_are_no_failure_and_open_ones_are() {
        let hold = |outcomes: &[ClaimOutcome]| {
            let claims = outcomes.iter().map(|outcome| claim(*outcome)).collect();
            Claims { schema_version: 1, claims }.all_evaluated_hold()
        };
        assert!(hold(&[]) && hold(&[ClaimOutcome::Held, ClaimOutcome::NotMeasured]));
        for failing in [ClaimOutcome::Inconclusive, ClaimOutcome::NotHeld, ClaimOutcome::Invalid] {
            assert!(!hold(&[ClaimOutcome::Held, failing]), "{failing:?}");
        }
    }

    #[test]
    fn outcomes_have_one_name_in_files_and_tables() {
        for outcome in ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn a_claim_keeps_the_field_names_of_the_first_version() {
        let text = serde_json::to_string(&claim(ClaimOutcome::NotHeld)).unwrap();
        assert!(text.contains(r#""verdict":"not held""#), "{text}");
        assert!(!text.contains("criterion") && !text.contains("note") && !text.contains("beside"), "{text}");
        assert_eq!(serde_json::from_str::<EvaluatedClaim>(&text).unwrap(), claim(ClaimOutcome::NotHeld));
    }
}
