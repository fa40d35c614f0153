//! A failure is never a 200, and a 200 is a true answer: the function says that it ran this very invocation, for at
//! least as long as it was asked to, and a sandbox was seen to run it. An answer that the data plane made itself says
//! so, and has no sandbox.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{
    event::{Answer, Event},
    ledger::Entry,
    scenario::{Call, Scenario},
    tap::label,
};

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let calls: BTreeMap<_, _> = scenario.calls.iter().map(|call| (call.id, call)).collect();
    let mut ran = BTreeSet::new();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        match event {
            Event::Began { call, .. } => drop(ran.insert(*call)),
            Event::Answered { call, answer } => {
                let expected = calls.get(call).map(|call| (*call, label(&scenario.function_name(call), call.id)));
                let Some((call, label)) = expected else { continue };
                if let Some(lie) = lie(call, &label, answer, ran.contains(&call.id)) {
                    let what = format!("#{}: {lie}, but it was answered {answer}", call.id);
                    violations.push(Violation { invariant: "an answer is true", at_ms: *at_ms, what });
                }
            }
            _ => {}
        }
    }
    violations
}

/// What is not true about an answer.
fn lie(call: &Call, label: &str, answer: &Answer, ran: bool) -> Option<String> {
    if answer.status != 200 {
        return answer.sandbox.is_some().then(|| "the data plane refused it itself".to_owned());
    }
    if answer.ran.as_deref() != Some(label) {
        return Some(format!("it was {label}"));
    }
    if answer.ran_ms.is_none_or(|ran_ms| ran_ms < call.run_ms) {
        return Some(format!("it had to run for {} ms", call.run_ms));
    }
    if answer.sandbox.is_none() || answer.attempts.is_none() {
        return Some("sandbox and attempts belong to an answer".to_owned());
    }
    (!ran).then(|| "no sandbox ran it".to_owned())
}
