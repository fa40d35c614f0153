//! What must hold in every run, each property in a file of its own, checked on the events afterwards.

mod answered_once;
mod at_rest;
mod concurrency;
mod dead_worker;
mod never_twice;
mod one_function;
mod served_when_settled;
mod true_answers;

#[cfg(test)]
mod tests;

use std::fmt;

use super::{ledger::Entry, scenario::Scenario};

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The property, in a few words.
    pub(crate) invariant: &'static str,
    /// When it was broken, in milliseconds of the run.
    pub(crate) at_ms: u64,
    /// What was expected and what was seen.
    pub(crate) what: String,
}

/// Checks one property.
type Check = fn(&Scenario, &[Entry]) -> Vec<Violation>;

const CHECKS: [Check; 8] = [
    answered_once::check,
    true_answers::check,
    concurrency::check,
    one_function::check,
    never_twice::check,
    dead_worker::check,
    served_when_settled::check,
    at_rest::check,
];

/// Checks every property.
pub(crate) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    CHECKS.iter().flat_map(|check| check(scenario, entries)).collect()
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of \"{}\" at {} ms: {}", self.invariant, self.at_ms, self.what)
    }
}
