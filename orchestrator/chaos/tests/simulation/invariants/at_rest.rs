//! Without load, the sandboxes of the workers are those that the control plane knows; after the deregistration of all
//! functions there are none.

use super::Violation;
use crate::simulation::{event::Event, event_log::Entry, scenario::Scenario};

const INVARIANT: &str = "without load expected and actual sandboxes are equal";

pub(super) fn check(_: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut snapshots = 0;
    let mut deregistered = false;
    for Entry { at_ms, event } in entries {
        match event {
            Event::Deregistered { .. } => deregistered = true,
            Event::Snapshot { expected, actual } => {
                snapshots += 1;
                if expected != actual || (deregistered && !actual.is_empty()) {
                    violations.push(Violation { invariant: INVARIANT, at_ms: *at_ms, what: event.to_string() });
                }
            }
            _ => {}
        }
    }
    if snapshots != 2 {
        let what = format!("expected a snapshot before and one after deregistration, there were {snapshots}");
        violations.push(Violation { invariant: INVARIANT, at_ms: 0, what });
    }
    violations
}
