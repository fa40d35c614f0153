//! A sandbox never runs more invocations at once than its function's concurrency, over all data planes, also after
//! cancellation: counted at the sandbox's own connections.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{event::Event, event_log::Entry, scenario::Scenario};

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let limits: BTreeMap<_, _> =
        scenario.calls.iter().map(|call| (call.id, scenario.functions[call.function].concurrency)).collect();
    let mut running: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        match event {
            Event::Began { worker, port, call } => {
                let here = running.entry((*worker, *port)).or_default();
                here.insert(*call);
                let limit = limits.get(call).copied().unwrap_or_default();
                if here.len() > limit as usize {
                    let what = format!("{worker}:{port} runs {here:?}, expected at most {limit}");
                    violations.push(Violation { invariant: "concurrency is never exceeded", at_ms: *at_ms, what });
                }
            }
            Event::Ended { worker, port, call, .. } => {
                running.entry((*worker, *port)).or_default().remove(call);
            }
            _ => {}
        }
    }
    violations
}
