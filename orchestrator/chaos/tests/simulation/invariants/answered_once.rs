//! Every accepted invocation ends in exactly one answer: with a status that the interface names, in the time that its
//! limits allow. Only the death of the data plane that carries it may end its connection without one.

use std::collections::BTreeMap;

use super::Violation;
use crate::simulation::{
    event::{Answer, Event},
    fault::Fault,
    host::Host,
    ledger::Entry,
    scenario::Scenario,
};

const INVARIANT: &str = "every invocation is answered once";

/// Errors of the interface that these clients and functions can cause; all functions are registered all the time.
const ERRORS: [(u16, &str); 6] = [
    (502, "upstream"),
    (503, "not-ready"),
    (503, "queue-full"),
    (503, "creation-failed"),
    (504, "queue-deadline"),
    (504, "timeout"),
];

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let mut ends = BTreeMap::new();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        let fault = match event {
            Event::Answered { call, answer } => ends.insert(call, at_ms).is_some().then(|| (*call, "answered twice".to_owned())).or_else(|| {
                (!is_expected(answer)).then(|| (*call, format!("answered {answer}, which is no answer of the interface")))
            }),
            Event::Abandoned { call } => ends.insert(call, at_ms).map(|_| (*call, "answered, then abandoned".to_owned())),
            Event::Unanswered { call } => Some((*call, "not answered in time".to_owned())),
            Event::Broken { call, cause } => {
                ends.insert(call, at_ms);
                let data_plane = scenario.calls.iter().find(|known| known.id == *call).map(|known| known.data_plane);
                let excused = data_plane.is_some_and(|number| dies(scenario, Host::DataPlane(number), *at_ms));
                (!excused).then(|| (*call, format!("its connection broke ({cause}) while its data plane lived")))
            }
            _ => None,
        };
        violations.extend(fault.map(|(call, what)| violation(*at_ms, call, &what)));
    }
    let without_end = scenario.calls.iter().filter(|call| !ends.contains_key(&call.id));
    violations.extend(without_end.map(|call| violation(call.at_ms, call.id, "never ended")));
    violations
}

fn violation(at_ms: u64, call: u64, what: &str) -> Violation {
    Violation { invariant: INVARIANT, at_ms, what: format!("#{call}: {what}") }
}

fn is_expected(answer: &Answer) -> bool {
    match &answer.error {
        None => answer.status == 200,
        Some(error) => ERRORS.contains(&(answer.status, error.as_str())),
    }
}

/// Whether the program of `host` is dead at a time, or died so recently that a client hears of it only now.
fn dies(scenario: &Scenario, host: Host, at_ms: u64) -> bool {
    let news_ms = scenario.latency_ms.1 + 2;
    let covers = |from_ms: u64, until_ms: u64| from_ms <= at_ms && at_ms <= until_ms + news_ms;
    scenario.faults.iter().any(|plan| plan.fault == Fault::Kill(host) && covers(plan.from_ms, plan.until_ms))
}
