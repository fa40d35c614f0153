//! The whole cluster under simulated faults: a table of seeds, and the faults by which runs once found a defect.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod simulation;

use simulation::{Fault, Host, Planned, Run, Scenario};

const CONTROL_PLANE: Host = Host::ControlPlane;

/// Chosen so that every kind of fault occurs.
const SEEDS: [u64; 3] = [1, 2, 3];

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

#[test]
fn a_seed_replays_the_same_events() {
    let run = || Run::of(Scenario::of_seed(7));
    assert_eq!(run().difference(&run()), None, "expected the same events twice");
}

/// Nothing else is wrong, so there is no excuse: from two seconds after the loss on, every invocation is served.
#[test]
fn functions_of_a_lost_worker_run_elsewhere() {
    let faults = planned(&[(Fault::Lose(Host::Worker(2)), 5_000, 13_000)]);
    expect_no_violation(Scenario { faults, ..Scenario::of_seed(4) });
}

/// A worker that does not report after a restart is given up; data planes that use its sandboxes must be told so in a
/// way they understand, because when it comes back its sandboxes are lent anew.
#[test]
fn sandboxes_of_a_worker_given_up_after_a_restart_are_not_lent_twice() {
    let cut = Fault::Cut(Host::Worker(4), CONTROL_PLANE);
    let faults = planned(&[(cut, 5_900, 12_500), (Fault::Kill(CONTROL_PLANE), 6_500, 6_800)]);
    expect_no_violation(Scenario { faults, ..Scenario::of_seed(11) });
}

/// A dead worker comes back while a data plane that uses its sandboxes cannot be told that they were given up.
#[test]
fn sandboxes_used_by_a_data_plane_out_of_reach_are_not_lent_twice() {
    let (worker, data_plane) = (Host::Worker(4), Host::DataPlane(2));
    let faults = planned(&[
        (Fault::Cut(data_plane, CONTROL_PLANE), 5_000, 13_500),
        (Fault::Cut(worker, CONTROL_PLANE), 5_000, 11_000),
    ]);
    expect_no_violation(Scenario { faults, ..Scenario::of_seed(13) });
}
