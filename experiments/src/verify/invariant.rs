//! Collects what is found of the rules that a run must keep, and says what that means for it.

use record::{Finding, Invariant, Invariants, Scope, Weight};

use crate::exit::Exit;

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

    /// Adds a rule without which what it is about may not be used.
    pub fn validity(&mut self, rule: &str, holds: bool, detail: impl Into<String>) {
        self.add(rule, Weight::Validity, Finding::of(holds), detail);
    }

    /// Adds a rule with any weight and finding.
    pub fn add(&mut self, rule: &str, weight: Weight, finding: Finding, detail: impl Into<String>) {
        let (scope, rule) = (self.scope.clone(), rule.to_owned());
        self.found.push(Invariant { scope, rule, weight, finding, detail: detail.into() });
    }

    /// Adds a rule that nothing says anything about.
    pub fn not_measured(&mut self, rule: &str, reason: impl Into<String>) {
        self.add(rule, Weight::Validity, Finding::NotMeasured, reason);
    }

    /// All of them.
    #[must_use]
    pub fn into_list(self) -> Vec<Invariant> {
        self.found
    }
}

/// The exit code that judged invariants mean.
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
}
