//! A failure is never a 200, and a 200 is true: the function reports that it ran this invocation for at least the
//! requested time, and a probe observed the run in a sandbox. A response of the data plane itself is marked as one and
//! names no sandbox.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{
    event::{ClientResponse, Event},
    event_log::Entry,
    probe::label,
    scenario::{Call, Scenario},
};

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let calls: BTreeMap<_, _> = scenario.calls.iter().map(|call| (call.id, call)).collect();
    let mut ran = BTreeSet::new();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        match event {
            Event::Began { call, .. } => drop(ran.insert(*call)),
            Event::Responded { call, response } => {
                let expected = calls.get(call).map(|call| (*call, label(&scenario.function_name(call), call.id)));
                let Some((call, label)) = expected else { continue };
                if let Some(contradiction) = contradiction(call, &label, response, ran.contains(&call.id)) {
                    let what = format!("#{}: {contradiction}, but it got {response}", call.id);
                    violations.push(Violation { invariant: "a response is true", at_ms: *at_ms, what });
                }
            }
            _ => {}
        }
    }
    violations
}

/// The claim of a response that is not true.
fn contradiction(call: &Call, label: &str, response: &ClientResponse, ran: bool) -> Option<String> {
    if response.status != 200 {
        return response.sandbox.is_some().then(|| "the data plane itself refused it".to_owned());
    }
    if response.ran.as_deref() != Some(label) {
        return Some(format!("it was {label}"));
    }
    if response.ran_ms.is_none_or(|ran_ms| ran_ms < call.run_ms) {
        return Some(format!("it had to run for {} ms", call.run_ms));
    }
    if response.sandbox.is_none() || response.attempts.is_none() {
        return Some("sandbox and attempts belong to a response".to_owned());
    }
    (!ran).then(|| "no sandbox ran it".to_owned())
}
