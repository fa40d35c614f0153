//! At rest, what exists on the workers equals what the control plane believes; after everything was deregistered, that
//! is nothing.

use super::Violation;
use crate::simulation::{event::Event, ledger::Entry, scenario::Scenario};

const INVARIANT: &str = "at rest belief is truth";

pub(super) fn check(_: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut looks = 0;
    let mut deregistered = false;
    for Entry { at_ms, event } in entries {
        match event {
            Event::Deregistered { .. } => deregistered = true,
            Event::Rest { believed, existing } => {
                looks += 1;
                if believed != existing || (deregistered && !existing.is_empty()) {
                    violations.push(Violation { invariant: INVARIANT, at_ms: *at_ms, what: event.to_string() });
                }
            }
            _ => {}
        }
    }
    if looks != 2 {
        let what = format!("expected a look before and one after deregistration, there were {looks}");
        violations.push(Violation { invariant: INVARIANT, at_ms: 0, what });
    }
    violations
}
