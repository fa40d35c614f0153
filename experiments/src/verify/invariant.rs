//! Collects the findings of the invariants of a run, and derives its exit code from them.

use std::fmt;

use record::{Finding, Invariant, Invariants, Scope, Weight};

use crate::exit::Exit;

/// Counts of the rows that a rule covers: violations, and rows that cannot decide it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that break it.
    pub broken: u64,
    /// Rows without the values that could decide it.
    pub unproved: u64,
}

impl Tally {
    /// Counts a row that keeps or breaks the rule; `None` if that cannot be decided.
    pub fn note(&mut self, keeps: Option<bool>) {
        self.broken += u64::from(keeps == Some(false));
        self.unproved += u64::from(keeps.is_none());
    }

    /// The finding: a rule is broken by one row, and held only if every row proves it.
    #[must_use]
    pub fn finding(self) -> Finding {
        match (self.broken, self.unproved) {
            (0, 0) => Finding::Held,
            (0, _) => Finding::NotMeasured,
            _ => Finding::NotHeld,
        }
    }
}

/// Collects the invariants of one scope.
#[derive(Clone, Debug)]
pub struct Findings {
    scope: Scope,
    found: Vec<Invariant>,
}

impl Findings {
    /// Nothing found yet.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, found: Vec::new() }
    }

    /// Adds a rule that must hold, or its subject is invalid.
    pub fn validity(&mut self, rule: &str, holds: bool, detail: impl Into<String>) {
        self.add(rule, Weight::Validity, Finding::of(holds), detail);
    }

    /// Adds a rule that each row must keep, or the repetition is invalid.
    pub fn each(&mut self, rule: &str, tally: Tally, detail: impl fmt::Display) {
        let unproved = match tally.unproved {
            0 => String::new(),
            count => format!("; {count} rows lack what would prove it"),
        };
        self.add(rule, Weight::Validity, tally.finding(), format!("{detail}{unproved}"));
    }

    /// Adds a rule with any weight and finding.
    pub fn add(&mut self, rule: &str, weight: Weight, finding: Finding, detail: impl Into<String>) {
        let (scope, rule) = (self.scope.clone(), rule.to_owned());
        self.found.push(Invariant {
            scope,
            rule,
            weight,
            finding,
            detail: detail.into(),
            share_ppm: None,
            most_ppm: None,
        });
    }

    /// Adds a rule that a share of the machine, from 0 to 1, is less than a bound. The share is known as a range; if the bound is
    /// within the range, or without a range, the rule is not measured.
    pub fn share(&mut self, rule: &str, share: Option<(f64, f64)>, less_than: f64, of: &str) {
        let finding = match share {
            Some((_, most)) if most < less_than => Finding::Held,
            Some((least, _)) if least >= less_than => Finding::NotHeld,
            _ => Finding::NotMeasured,
        };
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        let detail = match share.map(|(least, most)| [percent(least), percent(most)]) {
            Some([least, most]) if least == most => format!("{least} %{of}"),
            Some([least, most]) => format!("between {least} and {most} %{of}"),
            None => "processes.csv lacks it".to_owned(),
        };
        let (scope, rule) = (self.scope.clone(), rule.to_owned());
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share is no less than 0, and small"
        )]
        let ppm = |share: f64| (share * 1e6).round() as u64;
        let share_ppm = share.map(|(least, _)| ppm(least));
        let most_ppm = share.map(|(_, most)| ppm(most));
        self.found.push(Invariant { scope, rule, weight: Weight::Mark, finding, detail, share_ppm, most_ppm });
    }

    /// Adds a rule that cannot be decided.
    pub fn not_measured(&mut self, rule: &str, reason: impl Into<String>) {
        self.add(rule, Weight::Validity, Finding::NotMeasured, reason);
    }

    /// All of them.
    #[must_use]
    pub fn into_list(self) -> Vec<Invariant> {
        self.found
    }
}

/// Exit code of the invariants.
#[must_use]
pub fn exit(invariants: &Invariants) -> Exit {
    let missed = |one: &Invariant| one.weight == Weight::Threshold && one.finding == Finding::NotHeld;
    if invariants.any_broken() {
        Exit::Invalid
    } else if invariants.invariants.iter().any(missed) {
        Exit::NotHeld
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_weighs_more_than_a_threshold_and_a_mark_weighs_nothing() {
        let exit_of = |findings: &Findings| {
            let invariants = findings.clone().into_list();
            exit(&Invariants { schema_version: record::SCHEMA_VERSION, checked: Vec::new(), invariants })
        };
        let mut findings = Findings::new(Scope::Run);
        findings.add("quiet", Weight::Mark, Finding::NotHeld, "");
        findings.not_measured("phases", "no file");
        assert_eq!(exit_of(&findings), Exit::Done);
        findings.add("failures", Weight::Threshold, Finding::NotHeld, "");
        assert_eq!(exit_of(&findings), Exit::NotHeld);
        let mut late = findings.clone();
        late.add("lag", Weight::Lateness, Finding::NotHeld, "");
        assert_eq!(exit_of(&late), Exit::Invalid);
        findings.validity("rows", false, "");
        assert_eq!(exit_of(&findings), Exit::Invalid);
    }

    #[test]
    fn a_share_of_the_machine_is_kept_as_a_number() {
        let mut findings = Findings::new(Scope::Run);
        let shares =
            [(0.0999, 0.0999), (0.1, 0.1), (0.0, 0.099), (0.099, 0.1), (0.1, 0.25)].map(Some).into_iter().chain([None]);
        for share in shares {
            findings.share("a rule", share, 0.1, " of 2 cores");
        }
        let found = findings.into_list();
        let found: Vec<_> =
            found.iter().map(|one| (one.finding, one.share_ppm, one.most_ppm, one.detail.as_str())).collect();
        let expected = [
            (Finding::Held, Some(99_900), Some(99_900), "10.0 % of 2 cores"),
            (Finding::NotHeld, Some(100_000), Some(100_000), "10.0 % of 2 cores"),
            (Finding::Held, Some(0), Some(99_000), "between 0.0 and 9.9 % of 2 cores"),
            (Finding::NotMeasured, Some(99_000), Some(100_000), "between 9.9 and 10.0 % of 2 cores"),
            (Finding::NotHeld, Some(100_000), Some(250_000), "between 10.0 and 25.0 % of 2 cores"),
            (Finding::NotMeasured, None, None, "processes.csv lacks it"),
        ];
        assert_eq!(found, expected);
    }
}
