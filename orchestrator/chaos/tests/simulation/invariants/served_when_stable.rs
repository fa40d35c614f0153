//! Liveness: an invocation that is sent some time after the last beginning or end of a fault is served in time. A dead
//! worker is no exemption: its functions run elsewhere.

use std::collections::BTreeMap;

use super::Violation;
use crate::simulation::{
    event::Event,
    event_log::Entry,
    fault::{Fault, Planned},
    host::Host,
    scenario::{Call, DEAD_AFTER_MS, RECONNECT_MS, Scenario, TIMEOUT_MS},
};

/// After this a dead worker gets no new traffic, and its functions run elsewhere.
const REPLACED_MS: u64 = 2_000;
/// Time from the death of a worker until a function at its upper bound gets replacements.
const DECISION_MS: u64 = 1_000;
/// An invocation that was lost with a link times out, and its sandbox is removed a second later.
const LOST_MS: u64 = TIMEOUT_MS + 1_000;

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let calls: BTreeMap<_, _> = scenario.calls.iter().map(|call| (call.id, call)).collect();
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        let (id, what) = match event {
            Event::Responded { call, response } if response.status != 200 => (call, response.to_string()),
            Event::Broken { call, cause } => (call, cause.clone()),
            Event::TimedOut { call } => (call, "no response".to_owned()),
            _ => continue,
        };
        let Some(call) = calls.get(id) else { continue };
        if is_stable(scenario, call, *at_ms) {
            let what = format!("#{id} of {}, sent at {} ms, got {what}", scenario.function_name(call), call.at_ms);
            violations.push(Violation { invariant: "served when stable", at_ms: *at_ms, what });
        }
    }
    violations
}

/// Returns true if no fault from shortly before the sending to the end exempts a failure.
fn is_stable(scenario: &Scenario, call: &Call, ended_ms: u64) -> bool {
    let is_bounded = scenario.functions[call.function].scale.max.is_some();
    scenario.faults.iter().all(|plan| {
        let Planned { fault, from_ms, until_ms } = *plan;
        // The change is long enough before the call, or after its end.
        let after = |change_ms: u64, recovery_ms: u64| call.at_ms >= change_ms + recovery_ms || ended_ms < change_ms;
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
