//! `dirigent` against vectors computed by hand from the published system's formulas.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use model::Scaling;
use policy::autoscale::{Autoscaler, Decision, Demand, Sample, Supply, find};

const TICK_MS: u64 = 2_000;
const NOTHING: Demand = Demand { waiting: 0, running: 0 };

/// Four ticks in the stable window, two in the panic window, target 1, and no panic.
fn calm() -> Scaling {
    Scaling {
        target_utilization: 1.0,
        stable_window: Duration::from_secs(8),
        panic_window: Some(Duration::from_secs(4)),
        panic_threshold: 1e6,
        ..Scaling::default()
    }
}

fn dirigent(scaling: &Scaling) -> Autoscaler {
    Autoscaler::new(find("dirigent").unwrap(), scaling, 1)
}

fn running(running: u32) -> Demand {
    Demand { waiting: 0, running }
}

fn ready(ready: u32) -> Supply {
    Supply { ready, starting: 0, concurrency: 1 }
}

/// The decisions of ticks from number `from` on, with this number of invocations running at each; decisions take
/// effect.
fn drive(autoscaler: &mut Autoscaler, from: u64, first: u32, running_at: &[u32]) -> Vec<u32> {
    let mut have = first;
    let tick = |(tick, &running_now): (u64, &u32)| {
        have = autoscaler.decide(tick * TICK_MS, running(running_now), ready(have)).sandboxes;
        have
    };
    (from..).zip(running_at).map(tick).collect()
}

#[test]
fn the_first_request_requests_one_sandbox_at_once_however_many_wait() {
    let mut autoscaler = dirigent(&Scaling::default());
    let idle = autoscaler.decide(0, NOTHING, ready(0));
    assert_eq!((idle.sandboxes, idle.again_in_ms, autoscaler.on_demand()), (0, None, true));
    let decision = autoscaler.decide(500, Demand { waiting: 40, running: 0 }, ready(0));
    let expected = Decision { sandboxes: 1, creations: 1, min_idle_ms: 0, drain: true, again_in_ms: Some(TICK_MS) };
    assert_eq!(decision, expected, "the formulas come with the first tick, 2 s later");
    assert!(!autoscaler.on_demand() && autoscaler.tick_ms() == Some(TICK_MS));
    let between = autoscaler.decide(1_500, Demand { waiting: 90, running: 1 }, ready(1));
    assert_eq!((between.sandboxes, between.again_in_ms), (1, Some(1_000)));
}

#[test]
fn concurrency_is_that_of_the_instant() {
    let mut autoscaler = dirigent(&calm());
    assert_eq!(autoscaler.decide(0, running(1), ready(0)).sandboxes, 1);
    // A second with 50 at once on average, of which 3 are left at the tick: 3 / 1.
    let sample = Sample { span_ms: 1_000, concurrency_us: 50_000_000, requests: 70, peak: 60, ..Sample::default() };
    autoscaler.record(1_000, 0, &sample);
    assert_eq!(autoscaler.decide(2_000, Demand { waiting: 1, running: 2 }, ready(1)).sandboxes, 3);
}

#[test]
fn scale_down_follows_the_average_over_the_ticks_of_the_stable_window() {
    let mut autoscaler = dirigent(&calm());
    assert_eq!(autoscaler.decide(0, running(4), ready(0)).sandboxes, 1);
    assert_eq!(drive(&mut autoscaler, 1, 1, &[4, 4, 4, 4]), [4, 4, 4, 4]);
    // 12 / 4 = 3, 8 / 4 = 2, 4 / 4 = 1, and after a whole stable window (8 s since the last request, at 8 s) none.
    assert_eq!(drive(&mut autoscaler, 5, 4, &[0, 0, 0, 0]), [3, 2, 1, 0]);
    assert_eq!((autoscaler.on_demand(), autoscaler.tick_ms()), (true, None), "the ticks have ended");
}

#[test]
fn one_tick_changes_the_count_at_most_by_the_rates() {
    // ceil(1.1 × 2) = 3 though 10 run; a sandbox that is only starting counts already.
    let scaling = Scaling { max_scale_up_rate: 1.1, max_scale_down_rate: 4.0, ..calm() };
    let mut autoscaler = dirigent(&scaling);
    assert_eq!(autoscaler.decide(0, running(10), ready(0)).sandboxes, 1);
    let supply = Supply { ready: 1, starting: 1, concurrency: 1 };
    assert_eq!(autoscaler.decide(2_000, running(10), supply).sandboxes, 3);
    // Of 40 found at the start: floor(40 / 4) = 10, floor(10 / 4) = 2, then floor(2 / 4) = 0. But they may have been
    // used within 8 s before they were found, so the last one goes with the fourth tick.
    let mut found = dirigent(&scaling);
    assert_eq!(found.decide(0, NOTHING, ready(40)).sandboxes, 40);
    assert_eq!(drive(&mut found, 1, 40, &[0, 0, 0, 0]), [10, 2, 1, 0]);
}

#[test]
fn a_burst_panics_and_nothing_is_scaled_down_for_a_stable_window() {
    let scaling = Scaling { panic_threshold: 2.0, ..calm() };
    let mut autoscaler = dirigent(&scaling);
    assert_eq!(autoscaler.decide(0, running(1), ready(0)).sandboxes, 1);
    assert_eq!(drive(&mut autoscaler, 1, 1, &[1, 1, 1, 1]), [1, 1, 1, 1]);
    // Tick 5: panic (1 + 9) / 2 = 5 ≥ 2 × 1, stable (3 + 9) / 4 = 3. Tick 6: panic (9 + 0) / 2 = 4.5 → 5 < 2 × 5. Panic
    // since tick 5 (10 s) ends after 18 s, that is at tick 10; the window (7 to 10) is empty by then: floor(5 / 2),
    // then floor(2 / 2), and floor(1 / 2).
    assert_eq!(drive(&mut autoscaler, 5, 1, &[9, 0, 0, 0, 0, 0, 0, 0]), [5, 5, 5, 5, 5, 2, 1, 0]);
}

#[test]
fn invocations_between_ticks_keep_the_last_sandbox() {
    let mut autoscaler = dirigent(&calm());
    assert_eq!(autoscaler.decide(0, running(1), ready(0)).sandboxes, 1);
    let short = Sample { span_ms: 1_000, concurrency_us: 10_000, requests: 1, peak: 1, ..Sample::default() };
    for tick in 1..=50 {
        autoscaler.record(tick * TICK_MS - 1_000, 0, &short);
        assert_eq!(autoscaler.decide(tick * TICK_MS, NOTHING, ready(1)).sandboxes, 1, "tick {tick}");
    }
    // The last demand was at 99 s: at 106 s that is 7 s ago, at 108 s more than the stable window.
    assert_eq!(drive(&mut autoscaler, 51, 1, &[0, 0, 0, 0]), [1, 1, 1, 0]);
}

#[test]
fn sandboxes_found_after_a_traffic_report_stay_for_a_stable_window() {
    let mut autoscaler = dirigent(&calm());
    autoscaler.record(0, 0, &Sample { requests: 1, peak: 1, ..Sample::default() });
    assert_eq!(autoscaler.decide(0, NOTHING, ready(2)).sandboxes, 2);
    // floor(2 / 2) = 1, then floor(1 / 2) = 0, but for 8 s one stays.
    assert_eq!(drive(&mut autoscaler, 1, 2, &[0, 0, 0, 0]), [1, 1, 1, 0]);
    let left = autoscaler.decide(8_500, NOTHING, ready(1));
    assert_eq!((left.sandboxes, left.again_in_ms), (0, Some(TICK_MS)), "one that could not be given up yet");
}

#[test]
fn bounds_hold_at_once_and_a_lower_one_keeps_the_ticks() {
    let scaling = Scaling { min: 2, max: Some(3), ..calm() };
    let mut autoscaler = dirigent(&scaling);
    assert_eq!(autoscaler.decide(0, NOTHING, ready(0)).sandboxes, 2, "also before any request");
    assert_eq!(autoscaler.decide(100, running(9), ready(2)).sandboxes, 2);
    assert_eq!(autoscaler.decide(2_100, running(9), ready(2)).sandboxes, 3);
    autoscaler.retune(&Scaling { max: Some(2), ..scaling.clone() }, 1);
    assert_eq!(autoscaler.decide(2_200, running(9), ready(3)).sandboxes, 2);
    for tick in 2..50 {
        assert_eq!(autoscaler.decide(100 + tick * TICK_MS, NOTHING, ready(2)).sandboxes, 2, "tick {tick}");
    }
    assert_eq!(autoscaler.tick_ms(), Some(TICK_MS));
}
