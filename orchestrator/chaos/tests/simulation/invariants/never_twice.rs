//! An invocation that must not be repeated is not: one with a body and a method that is not idempotent is run to its
//! answer by one sandbox at most. One that was served never begins again, whatever its method. (One that was given up
//! may: its request can still be under way when the function's time-out passes.)

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{event::Event, ledger::Entry, scenario::Scenario};

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let with_body: BTreeSet<_> =
        scenario.calls.iter().filter(|call| call.body_bytes.unwrap_or_default() > 0).map(|call| call.id).collect();
    let mut runs: BTreeMap<_, u32> = BTreeMap::new();
    let mut served = BTreeSet::new();
    let mut violations = Vec::new();
    let mut fail = |at_ms, what| violations.push(Violation { invariant: "nothing is repeated", at_ms, what });
    for Entry { at_ms, event } in entries {
        match event {
            Event::Ended { call, answered: true, worker, port } if with_body.contains(call) => {
                let runs = runs.entry(*call).or_default();
                *runs += 1;
                if *runs > 1 {
                    fail(*at_ms, format!("#{call}, a POST with a body, ran a second time, in {worker}:{port}"));
                }
            }
            Event::Answered { call, answer } if answer.status == 200 => drop(served.insert(*call)),
            Event::Began { call, worker, port } if served.contains(call) => {
                fail(*at_ms, format!("#{call} began in {worker}:{port} after its answer"));
            }
            _ => {}
        }
    }
    violations
}
