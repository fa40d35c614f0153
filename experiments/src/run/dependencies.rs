//! Dependencies of a repetition's result, as one SHA-256: a resumed run compares it to decide if finished rows are
//! still those that would be measured.

use std::path::Path;

use anyhow::Context;
use record::SystemFacts;

use crate::{
    checksum,
    definition::settings::Settings,
    run::{
        basis::{self, Basis},
        inputs::Inputs,
        plan::Action,
    },
};

/// Dependencies of a repetition's result except for its system. Inputs may be large, so they are hashed once.
#[derive(Clone, Debug)]
pub struct Dependencies {
    /// The repetition, and its settings.
    pub head: [String; 2],
    /// SHA-256 of the schedule, the functions and the load generator.
    pub inputs: Vec<String>,
}

/// Fingerprint and system of a finished repetition.
#[derive(Clone, Debug, Default)]
pub struct MeasuredWith {
    /// From the repetition's own record, or the plan; empty if neither has it.
    pub fingerprint: String,
    /// From the repetition's own record.
    pub system: Option<SystemFacts>,
}

impl From<Basis> for MeasuredWith {
    fn from(Basis { fingerprint, system, .. }: Basis) -> Self {
        Self { fingerprint, system: Some(system) }
    }
}

impl Dependencies {
    /// Dependencies of the repetition that `action` measures with these settings, inputs and load generator.
    ///
    /// # Errors
    /// If an input cannot be read.
    pub(super) fn of(
        action: &Action,
        settings: &Settings,
        inputs: &Inputs,
        loadgen: Option<&String>,
    ) -> anyhow::Result<Self> {
        let sum = |path: &Path| checksum::of_file(path).with_context(|| format!("reading {}", path.display()));
        let mut sums = vec![sum(&inputs.schedule)?, sum(&inputs.functions)?];
        sums.extend(loadgen.cloned());
        Ok(Self { head: [serde_json::to_string(action)?, settings.to_toml()], inputs: sums })
    }

    /// The SHA-256 with a system.
    #[must_use]
    pub fn fingerprint(&self, system: Option<&SystemFacts>) -> String {
        self.sum(&basis::of_system(system))
    }

    /// Returns true if rows that were measured `with` something have these dependencies and this system.
    ///
    /// Fingerprints of earlier versions contain the paths of programs, so that those of both places are accepted.
    #[must_use]
    pub fn are_those_of(&self, with: &MeasuredWith, system: Option<&SystemFacts>) -> bool {
        let is_same = |own: &&SystemFacts| system.is_some_and(|now| basis::system_changes(own, now).is_empty());
        let own = with.system.as_ref().filter(is_same);
        let as_before =
            |facts: &SystemFacts| self.sum(&serde_json::to_string(facts).expect("facts are written as JSON"));
        with.fingerprint == self.fingerprint(system)
            || system.into_iter().chain(own).any(|facts| with.fingerprint == as_before(facts))
    }

    fn sum(&self, system: &str) -> String {
        let [head, inputs] =
            [self.head.as_slice(), self.inputs.as_slice()].map(|parts| parts.iter().map(String::as_str));
        let parts: Vec<&str> = head.chain([system]).chain(inputs).collect();
        checksum::of_text(&parts.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_count_in_earlier_fingerprints_only_and_other_programs_in_all() {
        let facts = |path: &str, sum: &str| SystemFacts {
            version: "1".to_owned(),
            binaries: [(path.to_owned(), sum.to_owned())].into(),
            ..SystemFacts::default()
        };
        let of = |schedule: &str| Dependencies {
            head: ["a", "b"].map(str::to_owned),
            inputs: [schedule, "functions", "loadgen"].map(str::to_owned).to_vec(),
        };
        let dependencies = of("schedule");
        let (own, elsewhere, other) = (facts("/p1/d", "1"), facts("/p3/d", "1"), facts("/p1/d", "2"));
        let before = |facts: &SystemFacts, inputs: &str| {
            let text = format!("a\nb\n{}\n{inputs}", serde_json::to_string(facts).unwrap());
            checksum::of_text(&text)
        };
        let inputs = "schedule\nfunctions\nloadgen";
        let with =
            |fingerprint: String, system: Option<&SystemFacts>| MeasuredWith { fingerprint, system: system.cloned() };
        let new = with(dependencies.fingerprint(Some(&own)), Some(&own));
        let old = with(before(&own, inputs), Some(&own));
        let of_plan = with(before(&own, inputs), None);
        for (measured, now, same) in [
            (&new, &own, true),
            (&new, &elsewhere, true),
            (&new, &other, false),
            (&old, &own, true),
            (&old, &elsewhere, true),
            (&old, &other, false),
            (&of_plan, &own, true),
            (&of_plan, &elsewhere, false),
            (&MeasuredWith::default(), &own, false),
            // Another sum than that of what it says of itself.
            (&with(before(&other, inputs), Some(&own)), &elsewhere, false),
        ] {
            assert_eq!(dependencies.are_those_of(measured, Some(now)), same, "{measured:?}, now {now:?}");
            assert!(!of("another").are_those_of(measured, Some(now)), "{measured:?}, now {now:?}");
        }
        assert!(!dependencies.are_those_of(&old, None));
    }
}
