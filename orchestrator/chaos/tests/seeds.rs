//! The whole cluster under simulated faults: a table of seeds, and the faults by which runs once found a defect.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod simulation;

use std::time::Duration;

use simulation::{Fault, Host, Planned, Run, Scenario};

const CONTROL_PLANE: Host = Host::ControlPlane;

/// A run in which most kinds of fault overlap; one in which each fault acts alone; and one in which a data plane
/// reports a failed sandbox to a new control plane before the worker reports that the sandbox exists.
const SEEDS: [u64; 3] = [8, 9, 6013];
/// A cut link, a killed worker and a restart of the control plane.
const REPLAYED_SEED: u64 = 4;

fn expect_no_violation(scenario: Scenario) {
    let run = Run::of(scenario);
    assert!(run.violations.is_empty(), "expected no violation\n{run}");
}

fn planned(faults: &[(Fault, u64, u64)]) -> Vec<Planned> {
    faults.iter().map(|&(fault, from_ms, until_ms)| Planned { fault, from_ms, until_ms }).collect()
}

#[test]
fn every_invariant_holds_under_faults() {
    for seed in SEEDS {
        expect_no_violation(Scenario::of_seed(seed));
    }
}

/// Each function has its own policies, so that all policies place on the same nodes at the same time.
#[test]
fn every_invariant_holds_under_every_policy() {
    let mut scenario = Scenario::of_seed(8);
    let placements = ["power-of-two", "random", "round-robin", "kubernetes"].into_iter().cycle();
    let balances = ["least-loaded", "round-robin", "random", "power-of-two", "knative"].into_iter().cycle();
    let autoscales = [None, Some("dirigent"), None, Some("kpa")].into_iter().cycle();
    for (function, ((placement, balance), autoscale)) in
        scenario.functions.iter_mut().zip(placements.zip(balances).zip(autoscales))
    {
        function.placement = Some(placement.to_owned());
        function.balance = Some(balance.to_owned());
        function.scale.policy = autoscale.map(str::to_owned);
    }
    expect_no_violation(scenario);
}

#[test]
fn a_seed_replays_the_same_events() {
    let run = || Run::of(Scenario::of_seed(REPLAYED_SEED));
    let (first, second) = (run(), run());
    assert_eq!(first.difference(&second), None, "expected the same events twice");
    assert!(first.violations.is_empty(), "expected no violation\n{first}");
}

/// A run with these faults and a few sandboxes that never end: the second data plane uses them from the start, and the
/// first one from `from_ms` on. A sandbox that is granted twice then soon runs two invocations at once.
fn contended(from_ms: u64, faults: &[(Fault, u64, u64)]) -> Scenario {
    let mut scenario = Scenario { faults: planned(faults), ..Scenario::of_seed(1) };
    scenario.calls.retain(|call| call.data_plane == 2 || call.at_ms > from_ms);
    for (call, function) in scenario.calls.iter_mut().zip((4..8).cycle()) {
        (call.function, call.run_ms, call.abandon_after_ms) = (function, 60, None);
    }
    for function in &mut scenario.functions[4..8] {
        function.scale.stable_window = Duration::from_secs(60);
    }
    scenario
}

/// There is no other fault and so no exemption: from two seconds after the loss on, every invocation is served.
#[test]
fn functions_of_a_lost_worker_run_elsewhere() {
    let faults = planned(&[(Fault::Lose(Host::Worker(2)), 5_000, 13_000)]);
    expect_no_violation(Scenario { faults, ..Scenario::of_seed(4) });
}

/// A worker that does not report after a restart of the control plane is declared dead. Its data planes must learn that
/// the grants are gone, because its sandboxes are granted again when it comes back.
#[test]
fn sandboxes_of_a_worker_declared_dead_after_a_restart_are_not_granted_twice() {
    let cut = Fault::Cut(Host::Worker(4), CONTROL_PLANE);
    expect_no_violation(contended(12_000, &[(cut, 5_900, 12_500), (Fault::Kill(CONTROL_PLANE), 6_500, 6_800)]));
}

/// A dead worker comes back while a data plane that uses its sandboxes cannot learn that their grants are gone.
#[test]
fn sandboxes_used_by_a_data_plane_out_of_reach_are_not_granted_twice() {
    let cut = |host| Fault::Cut(host, CONTROL_PLANE);
    let faults = [(cut(Host::DataPlane(2)), 5_000, 13_500), (cut(Host::Worker(4)), 5_000, 11_000)];
    expect_no_violation(contended(11_000, &faults));
}
