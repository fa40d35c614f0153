//! `invariants.json`: the rules that must hold for a run to be used, and the result of checking each.
//!
//! The runner writes it from the run's files before claims are evaluated; `analysis` consults it when it evaluates
//! claims or draws the page. A run without it was not checked, which is not the same as being sound.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The subject of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "lowercase")]
pub enum Scope {
    /// The run as a whole.
    Run,
    /// All systems at a point.
    Point {
        /// Its name.
        point: String,
        /// In this repetition only; absent: in all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repetition: Option<u32>,
    },
    /// One repetition of one system at one point.
    Repetition {
        /// Name of the system.
        system: String,
        /// Name of the point.
        point: String,
        /// Its number, from 1.
        repetition: u32,
    },
}

impl Scope {
    /// Returns true if the use of a repetition depends on rules of this scope. Rules about the whole run cover no
    /// repetition: they state that repetitions are missing, and users of the repetitions count those themselves.
    #[must_use]
    pub fn covers(&self, system: &str, point: &str, repetition: u32) -> bool {
        match self {
            Self::Run => false,
            Self::Point { point: own, repetition: only } => own == point && only.is_none_or(|only| only == repetition),
            Self::Repetition { system: own, point: at, repetition: number } => {
                (own.as_str(), at.as_str(), *number) == (system, point, repetition)
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Point { point, repetition: None } => f.write_str(point),
            Self::Point { point, repetition: Some(repetition) } => write!(f, "{point} {repetition}"),
            Self::Repetition { system, point, repetition } => write!(f, "{system} {point} {repetition}"),
        }
    }
}

/// The consequence of a rule that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The subject of the rule must not be used.
    Validity,
    /// The load generator was late, which says nothing about the system: the subject of the rule must not be used.
    Lateness,
    /// The subject may be used, with a note.
    Mark,
    /// The result is not the expected one.
    Threshold,
}

/// Result of checking a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// It holds.
    #[serde(rename = "held")]
    Held,
    /// It does not.
    #[serde(rename = "not held")]
    NotHeld,
    /// There is no data to check it by.
    #[serde(rename = "not measured")]
    NotMeasured,
}

impl Finding {
    /// The result of a rule that could be checked.
    #[must_use]
    pub fn of(holds: bool) -> Self {
        if holds { Self::Held } else { Self::NotHeld }
    }
}

/// One rule with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariant {
    /// The subject of the rule.
    pub scope: Scope,
    /// The rule as a statement that must hold.
    pub rule: String,
    /// The consequence when it does not.
    pub weight: Weight,
    /// Result of the check.
    pub finding: Finding,
    /// The numbers.
    pub detail: String,
    /// Of a rule that bounds a share of the machine, the least possible share, in millionths; absent for other rules,
    /// and in records of versions without it. An integer is read back exactly as it was written, so that findings can
    /// be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_ppm: Option<u64>,
    /// Likewise, the greatest possible share; absent also in records of versions that used the least share only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_ppm: Option<u64>,
}

impl Invariant {
    /// Rules about other use of the machine. A violation slows the system down, and says nothing about it.
    pub const NOISE: [&str; 3] = [
        "processes of others used less than 10 %",
        "the hypervisor took less than 2 %",
        "the load generator used less than 70 % of the cores",
    ];

    /// The rules of [`Self::NOISE`] about processes and machines outside the measurement.
    pub const NOISE_OF_OTHERS: [&str; 2] = [Self::NOISE[0], Self::NOISE[1]];

    /// The rule that a repetition was measured to its end.
    pub const ENDED: &str = "the repetition ended";

    /// The rule that no process of the system ended early.
    pub const LIVED: &str = "every process of the system lived";

    /// The rule that cold starts were cold. It is only a mark at a rate that was surely failed.
    pub const COLD: &str = "cold starts as expected";

    /// Rules about the identity of rows: of which programs and settings, of which machine, and of which build of the
    /// system.
    pub const IDENTITY: [&str; 3] = [
        "measured with what the manifest says",
        "measured on the machine that the manifest names",
        "what a system is built of is the same in all repetitions",
    ];

    /// The rules of [`Self::IDENTITY`] that are checked in every repetition; the last one only of systems that leave a
    /// `built.json`.
    pub const IDENTITY_OF_ALL: [&str; 2] = [Self::IDENTITY[0], Self::IDENTITY[1]];

    /// Returns true if the subject of the rule must not be used.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.finding == Finding::NotHeld && matches!(self.weight, Weight::Validity | Weight::Lateness)
    }

    /// The finding in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match (self.finding, self.weight) {
            (Finding::Held, _) => "held",
            (Finding::NotMeasured, _) => "not measured",
            (Finding::NotHeld, Weight::Mark) => "marked",
            (Finding::NotHeld, _) => "not held",
        }
    }

    /// The rule and its numbers in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let rule = format!("\"{}\" is {}", self.rule, self.words());
        if self.detail.is_empty() { rule } else { format!("{rule} ({})", self.detail) }
    }
}

/// A repetition whose files were checked, identified by the instant at which its load began: a later measurement of the
/// same repetition is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedRepetition {
    /// Name of the system.
    pub system: String,
    /// Name of the point.
    pub point: String,
    /// Its number, from 1.
    pub repetition: u32,
    /// The load's start instant, in nanoseconds since the Unix epoch; `None` without `loadgen.json`.
    pub started_unix_ns: Option<i64>,
}

/// All rules of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invariants {
    /// Version of this document.
    pub schema_version: u32,
    /// The repetitions that were checked.
    pub checked: Vec<CheckedRepetition>,
    /// The rules, those of the run first.
    pub invariants: Vec<Invariant>,
}

impl Invariants {
    /// Returns true if any invariant is broken.
    #[must_use]
    pub fn any_broken(&self) -> bool {
        self.invariants.iter().any(Invariant::is_broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_a_repetition_or_its_point_concerns_it_and_one_of_the_run_does_not() {
        let repetition = Scope::Repetition { system: "s".to_owned(), point: "p".to_owned(), repetition: 2 };
        assert!(repetition.covers("s", "p", 2));
        assert!(!repetition.covers("s", "p", 1) && !repetition.covers("t", "p", 2) && !repetition.covers("s", "q", 2));
        let point = |repetition| Scope::Point { point: "p".to_owned(), repetition };
        assert!(point(None).covers("t", "p", 9) && !point(None).covers("t", "q", 9));
        assert!(point(Some(9)).covers("t", "p", 9) && !point(Some(8)).covers("t", "p", 9));
        assert!(!Scope::Run.covers("s", "p", 1));
    }

    #[test]
    fn the_document_is_written_as_documented_and_read_again() {
        let all = Invariants {
            schema_version: 1,
            checked: vec![CheckedRepetition {
                system: "s".to_owned(),
                point: "p".to_owned(),
                repetition: 1,
                started_unix_ns: Some(7),
            }],
            invariants: vec![Invariant {
                scope: Scope::Point { point: "p".to_owned(), repetition: None },
                rule: "r".to_owned(),
                weight: Weight::Validity,
                finding: Finding::NotHeld,
                detail: "3 of 4".to_owned(),
                share_ppm: None,
                most_ppm: None,
            }],
        };
        let text = serde_json::to_string(&all.invariants).unwrap();
        let expected = r#"[{"scope":{"of":"point","point":"p"},"rule":"r","weight":"validity","finding":"not held","detail":"3 of 4"}]"#;
        assert_eq!(text, expected);
        let whole = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Invariants>(&whole).unwrap(), all);
        assert!(all.any_broken());
        assert_eq!(all.invariants[0].sentence(), "\"r\" is not held (3 of 4)");
        let noise = Invariant { share_ppm: Some(125_000), ..all.invariants[0].clone() };
        let text = serde_json::to_string(&noise).unwrap();
        assert!(text.ends_with(r#""detail":"3 of 4","share_ppm":125000}"#), "{text}");
        assert_eq!(serde_json::from_str::<Invariant>(&text).unwrap(), noise);
        let bounded = Invariant { most_ppm: Some(250_000), ..noise };
        let text = serde_json::to_string(&bounded).unwrap();
        assert!(text.ends_with(r#""share_ppm":125000,"most_ppm":250000}"#), "{text}");
        assert_eq!(serde_json::from_str::<Invariant>(&text).unwrap(), bounded);
    }
}
