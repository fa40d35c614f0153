//! An invocation with a body and a method that is not idempotent is completed by one sandbox at most. An invocation
//! that was served never starts again, whatever its method. (One that timed out may: its request can still be in flight
//! when the function's time-out expires.)

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::simulation::{event::Event, event_log::Entry, scenario::Scenario};

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let with_body: BTreeSet<_> =
        scenario.calls.iter().filter(|call| call.body_bytes.unwrap_or_default() > 0).map(|call| call.id).collect();
    let mut runs: BTreeMap<_, u32> = BTreeMap::new();
    let mut served = BTreeSet::new();
    let mut violations = Vec::new();
    let mut fail = |at_ms, what| violations.push(Violation { invariant: "nothing is repeated", at_ms, what });
    for Entry { at_ms, event } in entries {
        match event {
            Event::Ended { call, responded: true, worker, port } if with_body.contains(call) => {
                let runs = runs.entry(*call).or_default();
                *runs += 1;
                if *runs > 1 {
                    fail(*at_ms, format!("#{call}, a POST with a body, ran a second time, in {worker}:{port}"));
                }
            }
            Event::Responded { call, response } if response.status == 200 => drop(served.insert(*call)),
            Event::Began { call, worker, port } if served.contains(call) => {
                fail(*at_ms, format!("#{call} began in {worker}:{port} after its response"));
            }
            _ => {}
        }
    }
    violations
}
