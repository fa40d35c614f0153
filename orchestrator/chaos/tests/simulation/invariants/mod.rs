//! The invariants of every run, one per file, checked on the events after the run.

mod at_rest;
mod concurrency;
mod dead_worker;
mod never_twice;
mod one_function;
mod responded_once;
mod served_when_stable;
mod true_responses;

#[cfg(test)]
mod tests;

use std::fmt;

use super::{event_log::Entry, scenario::Scenario};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The invariant, in a few words.
    pub(crate) invariant: &'static str,
    /// The time in the run, in milliseconds.
    pub(crate) at_ms: u64,
    /// The expected and the observed values.
    pub(crate) what: String,
}

/// Checks one invariant.
type Check = fn(&Scenario, &[Entry]) -> Vec<Violation>;

const CHECKS: [Check; 8] = [
    responded_once::check,
    true_responses::check,
    concurrency::check,
    one_function::check,
    never_twice::check,
    dead_worker::check,
    served_when_stable::check,
    at_rest::check,
];

/// Checks every invariant.
pub(crate) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    CHECKS.iter().flat_map(|check| check(scenario, entries)).collect()
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of \"{}\" at {} ms: {}", self.invariant, self.at_ms, self.what)
    }
}
