//! A sandbox runs one function only, and has one id and one address: a response names the sandbox that ran the
//! invocation.

use std::collections::BTreeMap;

use super::Violation;
use crate::simulation::{event::Event, event_log::Entry, scenario::Scenario};

const INVARIANT: &str = "a sandbox is of one function";

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let functions: BTreeMap<_, _> = scenario.calls.iter().map(|call| (call.id, call.function)).collect();
    let (mut function_at, mut last_at, mut address_of) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        let at_ms = *at_ms;
        match event {
            Event::Began { worker, port, call } => {
                let address = (*worker, *port);
                last_at.insert(*call, address);
                let function = functions.get(call).copied().unwrap_or_default();
                let first = *function_at.entry(address).or_insert(function);
                if first != function {
                    let what = format!("#{call} of f{function} began in {worker}:{port}, a sandbox of f{first}");
                    violations.push(Violation { invariant: INVARIANT, at_ms, what });
                }
            }
            Event::Responded { call, response } => {
                let (Some(sandbox), Some(address)) = (&response.sandbox, last_at.get(call)) else { continue };
                let first = *address_of.entry(sandbox.clone()).or_insert(*address);
                if first != *address {
                    let what = format!("#{call} ran at {address:?}; {sandbox} was at {first:?}");
                    violations.push(Violation { invariant: INVARIANT, at_ms, what });
                }
            }
            _ => {}
        }
    }
    violations
}
