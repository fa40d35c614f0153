//! Every accepted invocation ends in exactly one answer: with a status that the interface names, in the time that its
//! limits allow. Only the death of the data plane that carries it may end its connection without one.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{
    event::{Answer, Event},
    host::Host,
    ledger::Entry,
    scenario::{Call, Scenario},
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
    let calls: BTreeMap<_, _> = scenario.calls.iter().map(|call| (call.id, call)).collect();
    let mut ended = BTreeSet::new();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        let (id, wrong) = match event {
            Event::Answered { call, answer } if is_expected(answer) => (call, None),
            Event::Answered { call, answer } => (call, Some(format!("{answer} is no answer of the interface"))),
            Event::Abandoned { call } => (call, None),
            Event::Unanswered { call } => (call, Some("not answered in time".to_owned())),
            Event::Broken { call, cause } => (call, Some(format!("its connection broke: {cause}"))),
            _ => continue,
        };
        if !ended.insert(*id) {
            violations.push(violation(*at_ms, *id, "it ended twice"));
        }
        let heard = matches!(event, Event::Answered { .. });
        let excused = !heard && calls.get(id).is_some_and(|call| data_plane_died(scenario, call, *at_ms));
        violations.extend(wrong.filter(|_| !excused).map(|wrong| violation(*at_ms, *id, &wrong)));
    }
    let without_end = scenario.calls.iter().filter(|call| !ended.contains(&call.id));
    violations.extend(without_end.map(|call| violation(call.at_ms, call.id, "it never ended")));
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

/// Whether the call's data plane was dead at any time between its sending and its end, the news of which takes a while.
fn data_plane_died(scenario: &Scenario, call: &Call, ended_ms: u64) -> bool {
    let news_ms = scenario.latency_ms.1 + 4;
    scenario.faults.iter().any(|plan| {
        plan.fault.down() == Some(Host::DataPlane(call.data_plane))
            && plan.from_ms <= ended_ms
            && call.at_ms <= plan.until_ms + news_ms
    })
}
