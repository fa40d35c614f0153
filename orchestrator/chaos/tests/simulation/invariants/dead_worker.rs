//! No data plane connects or writes to a worker that has been dead for two seconds.
//!
//! Exempt is a data plane that is cut off from the control plane, or whose control plane has just restarted, for as
//! long as a reconnect takes.

use super::Violation;
use crate::simulation::{
    event::Event,
    event_log::Entry,
    fault::{Fault, Planned},
    host::Host,
    scenario::{RECONNECT_MS, Scenario},
};

/// A worker is suspect after 1.5 s; the data planes learn that within the rest.
const GRACE_MS: u64 = 2_000;

pub(super) fn check(scenario: &Scenario, entries: &[Entry]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for Entry { at_ms, event } in entries {
        let (Event::Dialed { from, worker } | Event::Wrote { from, worker }) = event else { continue };
        let dead = |plan: &&Planned| {
            plan.fault.down() == Some(*worker) && (plan.from_ms + GRACE_MS..plan.until_ms).contains(at_ms)
        };
        if let Some(plan) = scenario.faults.iter().find(dead)
            && !is_exempt(scenario, *from, *at_ms)
        {
            let what = format!("{event}, {} ms after it was {}", at_ms - plan.from_ms, plan.fault);
            violations.push(Violation { invariant: "no traffic to a dead worker", at_ms: *at_ms, what });
        }
    }
    violations
}

fn is_exempt(scenario: &Scenario, data_plane: Host, at_ms: u64) -> bool {
    scenario.faults.iter().any(|plan| {
        let concerns = match plan.fault {
            Fault::Cut(a, b) | Fault::Stall(a, b) => {
                [a, b].contains(&data_plane) && [a, b].contains(&Host::ControlPlane)
            }
            Fault::Kill(host) | Fault::Lose(host) => host == data_plane || host == Host::ControlPlane,
        };
        concerns && (plan.from_ms..plan.until_ms + RECONNECT_MS).contains(&at_ms)
    })
}
