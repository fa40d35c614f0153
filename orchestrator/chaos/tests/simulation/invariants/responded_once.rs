//! Every accepted invocation gets exactly one response: with a documented status, within the time of its limits. Only
//! the death of its data plane may end its connection without a response.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{
    event::{ClientResponse, Event},
    event_log::Entry,
    host::Host,
    scenario::{Call, Scenario},
};

const INVARIANT: &str = "every invocation gets one response";

/// The documented errors that these clients and functions can cause. All functions are registered during the whole
/// load.
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
            Event::Responded { call, response } if is_expected(response) => (call, None),
            Event::Responded { call, response } => (call, Some(format!("{response} is not documented"))),
            Event::Abandoned { call } => (call, None),
            Event::TimedOut { call } => (call, Some("no response in time".to_owned())),
            Event::Broken { call, cause } => (call, Some(format!("its connection broke: {cause}"))),
            _ => continue,
        };
        if !ended.insert(*id) {
            violations.push(violation(*at_ms, *id, "it ended twice"));
        }
        let has_response = matches!(event, Event::Responded { .. });
        let is_exempt = !has_response && calls.get(id).is_some_and(|call| data_plane_died(scenario, call, *at_ms));
        violations.extend(wrong.filter(|_| !is_exempt).map(|wrong| violation(*at_ms, *id, &wrong)));
    }
    let without_end = scenario.calls.iter().filter(|call| !ended.contains(&call.id));
    violations.extend(without_end.map(|call| violation(call.at_ms, call.id, "it never ended")));
    violations
}

fn violation(at_ms: u64, call: u64, what: &str) -> Violation {
    Violation { invariant: INVARIANT, at_ms, what: format!("#{call}: {what}") }
}

fn is_expected(response: &ClientResponse) -> bool {
    match &response.error {
        None => response.status == 200,
        Some(error) => ERRORS.contains(&(response.status, error.as_str())),
    }
}

/// Returns true if the call's data plane was dead at any time from the sending to the end. The client notices with a
/// delay.
fn data_plane_died(scenario: &Scenario, call: &Call, ended_ms: u64) -> bool {
    let notice_ms = scenario.latency_ms.1 + 4;
    scenario.faults.iter().any(|plan| {
        plan.fault.down() == Some(Host::DataPlane(call.data_plane))
            && plan.from_ms <= ended_ms
            && call.at_ms <= plan.until_ms + notice_ms
    })
}
