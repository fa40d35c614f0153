//! Liveness: an invocation sent when nothing has gone wrong or come back for a while is served, on time. A dead worker
//! is no excuse: its functions run elsewhere.

use std::collections::BTreeMap;

use super::Violation;
use crate::simulation::{
    event::Event,
    fault::{Fault, Planned},
    host::Host,
    ledger::Entry,
    scenario::{Call, DEAD_AFTER_MS, RECONNECT_MS, Scenario, TIMEOUT_MS},
};

/// After this a dead worker gets no new traffic, and what was there runs elsewhere.
const REPLACED_MS: u64 = 2_000;
/// A function at its upper bound gets new sandboxes only for those of dead workers, and this much later.
const DECISION_MS: u64 = 1_000;
/// What was lost with a link is given up after the function's time-out, and its sandbox retired a second later.
const LOST_MS: u64 = TIMEOUT_MS + 1_000;

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let calls: BTreeMap<_, _> = scenario.calls.iter().map(|call| (call.id, call)).collect();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        let (id, what) = match event {
            Event::Answered { call, answer } if answer.status != 200 => (call, answer.to_string()),
            Event::Broken { call, cause } => (call, cause.clone()),
            Event::Unanswered { call } => (call, "not at all".to_owned()),
            _ => continue,
        };
        let Some(call) = calls.get(id) else { continue };
        if is_settled(scenario, call, *at_ms) {
            let what =
                format!("#{id} of {}, sent at {} ms, was answered {what}", scenario.function_name(call), call.at_ms);
            violations.push(Violation { invariant: "served when settled", at_ms: *at_ms, what });
        }
    }
    violations
}

/// Whether nothing that could excuse a failure happened from shortly before the sending to the end.
fn is_settled(scenario: &Scenario, call: &Call, ended_ms: u64) -> bool {
    let is_bounded = scenario.functions[call.function].scale.max.is_some();
    scenario.faults.iter().all(|plan| {
        let Planned { fault, from_ms, until_ms } = *plan;
        let after = |change_ms: u64, settle_ms: u64| call.at_ms >= change_ms + settle_ms || ended_ms < change_ms;
        match fault {
            Fault::Kill(Host::Worker(_)) | Fault::Lose(Host::Worker(_)) => {
                let replaced_ms = if is_bounded { DEAD_AFTER_MS + DECISION_MS } else { REPLACED_MS };
                after(from_ms, replaced_ms) && after(until_ms, REPLACED_MS)
            }
            Fault::Kill(_) | Fault::Lose(_) | Fault::Cut(..) | Fault::Stall(..) => {
                ended_ms < from_ms || call.at_ms >= until_ms + RECONNECT_MS + LOST_MS
            }
        }
    })
}
