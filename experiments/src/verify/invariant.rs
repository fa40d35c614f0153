//! What must hold for a run to be believed, and what is found about each such thing.

use crate::exit::Exit;

/// What it means when an invariant does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The run may not be used.
    Validity,
    /// The run may be used, and whoever does must know.
    Mark,
    /// The result is not the expected one.
    Threshold,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Held,
    /// It does not.
    NotHeld,
    /// There is nothing to judge it by.
    NotMeasured,
}

/// One judged invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Where: `run`, or system, point and repetition.
    pub place: String,
    /// What must hold.
    pub rule: &'static str,
    /// What it means when it does not.
    pub weight: Weight,
    /// What was found.
    pub verdict: Verdict,
    /// The numbers.
    pub detail: String,
}

impl Verdict {
    /// The verdict on something that was measured.
    #[must_use]
    pub fn of(holds: bool) -> Self {
        if holds { Self::Held } else { Self::NotHeld }
    }
}

impl Invariant {
    /// The verdict in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match (self.verdict, self.weight) {
            (Verdict::Held, _) => "held",
            (Verdict::NotMeasured, _) => "not measured",
            (Verdict::NotHeld, Weight::Mark) => "marked",
            (Verdict::NotHeld, Weight::Validity | Weight::Threshold) => "not held",
        }
    }
}

/// Collects the invariants of one place.
#[derive(Clone, Debug)]
pub struct Findings {
    place: String,
    found: Vec<Invariant>,
}

impl Findings {
    /// Nothing found yet.
    #[must_use]
    pub fn new(place: &str) -> Self {
        Self { place: place.to_owned(), found: Vec::new() }
    }

    /// Adds a rule without which the run may not be used.
    pub fn validity(&mut self, rule: &'static str, holds: bool, detail: impl Into<String>) {
        self.add(rule, Weight::Validity, Verdict::of(holds), detail);
    }

    /// Adds a rule with any weight and verdict.
    pub fn add(&mut self, rule: &'static str, weight: Weight, verdict: Verdict, detail: impl Into<String>) {
        self.found.push(Invariant { place: self.place.clone(), rule, weight, verdict, detail: detail.into() });
    }

    /// Adds a rule that nothing says anything about.
    pub fn not_measured(&mut self, rule: &'static str, reason: impl Into<String>) {
        self.add(rule, Weight::Validity, Verdict::NotMeasured, reason);
    }

    /// All of them.
    #[must_use]
    pub fn into_list(self) -> Vec<Invariant> {
        self.found
    }
}

/// The exit code that a list of judged invariants means.
#[must_use]
pub fn exit(invariants: &[Invariant]) -> Exit {
    let broken = |weight| invariants.iter().any(|one| one.weight == weight && one.verdict == Verdict::NotHeld);
    if broken(Weight::Validity) {
        Exit::Invalid
    } else if broken(Weight::Threshold) {
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
        let mut findings = Findings::new("run");
        findings.add("quiet", Weight::Mark, Verdict::NotHeld, "");
        findings.not_measured("phases", "no file");
        assert_eq!(exit(&findings.clone().into_list()), Exit::Done);
        findings.add("failures", Weight::Threshold, Verdict::NotHeld, "");
        assert_eq!(exit(&findings.clone().into_list()), Exit::NotHeld);
        findings.validity("rows", false, "");
        assert_eq!(exit(&findings.into_list()), Exit::Invalid);
    }
}
