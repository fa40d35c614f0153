//! The whole cluster under simulated faults, for a table of seeds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod simulation;

use simulation::Run;

/// Runs without a fault of their own to show: any seeds would do.
const SEEDS: [u64; 3] = [1, 2, 3];

#[test]
fn every_invariant_holds_under_faults() {
    for seed in SEEDS {
        let run = Run::of_seed(seed);
        assert!(run.violations.is_empty(), "expected no violation; replay with --reproduce {seed}\n{run}");
    }
}

#[test]
fn a_seed_replays_the_same_events() {
    let (first, second) = (Run::of_seed(7).trace(), Run::of_seed(7).trace());
    if let Some(index) = (0..first.len().max(second.len())).find(|&index| first.get(index) != second.get(index)) {
        let before = &first[index.saturating_sub(5)..index];
        let (one, other) = (first.get(index), second.get(index));
        panic!("expected the same events twice; after {before:#?}\nthe first run has {one:?},\nthe second {other:?}");
    }
}
