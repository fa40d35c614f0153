//! `kpa` against vectors computed by hand from the formulas of Knative Serving 1.13, and against a direct restatement
//! of these over all reports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use model::Scaling;
use policy::autoscale::{Autoscaler, Decision, Demand, Sample, Supply, find};
use proptest::prelude::*;

const TICK_MS: u64 = 2_000;
const NOTHING: Demand = Demand { waiting: 0, running: 0 };
const FIRST: Demand = Demand { waiting: 1, running: 0 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn kpa(scaling: &Scaling, concurrency: u32) -> Autoscaler {
    Autoscaler::new(find("kpa").unwrap(), scaling, concurrency)
}

fn ready(ready: u32) -> Supply {
    Supply { ready, starting: 0, concurrency: 1 }
}

/// A report of one second in which `concurrency` invocations were in flight on average.
fn sample(concurrency: f64) -> Sample {
    let concurrency_us = u64::try_from(Duration::from_secs_f64(concurrency).as_micros()).unwrap();
    Sample { span_ms: 1_000, concurrency_us, ..Sample::default() }
}

/// A function under constant load: the decision at each tick from `from_s` to `to_s`.
struct Load {
    concurrency: f64,
    from_s: u64,
    to_s: u64,
}

impl Load {
    fn drive(&self, autoscaler: &mut Autoscaler, mut ready_after: impl FnMut(u32) -> u32, first: u32) -> Vec<u32> {
        let mut have = first;
        let mut decided = Vec::new();
        for second in self.from_s..=self.to_s {
            autoscaler.record(second * 1_000, 0, &sample(self.concurrency));
            if (second * 1_000).is_multiple_of(TICK_MS) {
                let sandboxes = autoscaler.decide(second * 1_000, NOTHING, ready(have)).sandboxes;
                decided.push(sandboxes);
                have = ready_after(sandboxes);
            }
        }
        decided
    }
}

#[test]
fn the_first_request_panics_and_wants_two_sandboxes_at_once() {
    let mut autoscaler = kpa(&Scaling::default(), 1);
    assert_eq!(autoscaler.decide(0, NOTHING, ready(0)).sandboxes, 0);
    assert!(autoscaler.on_demand(), "desired is 0: the first request is decided on at once");
    // ceil(1 / (1 × 0.7)) = 2, and 2 ≥ 2 × max(1, 0).
    let decision = autoscaler.decide(500, FIRST, ready(0));
    let expected = Decision { sandboxes: 2, creations: 2, min_idle_ms: 0, drain: true, again_in_ms: Some(1_500) };
    assert_eq!(decision, expected, "ticks go on from where they began");
    assert!(!autoscaler.on_demand(), "from here on by the tick");
    assert_eq!(autoscaler.tick_ms(), Some(TICK_MS));
}

#[test]
fn the_first_request_wants_one_sandbox_under_a_bound_of_one() {
    let scaling = Scaling { max: Some(1), ..Scaling::default() };
    assert_eq!(kpa(&scaling, 1).decide(0, FIRST, ready(0)).sandboxes, 1);
    let scaling = Scaling { target_utilization: 1.0, ..Scaling::default() };
    assert_eq!(kpa(&scaling, 1).decide(0, FIRST, ready(0)).sandboxes, 1, "ceil(1 / 1) = 1");
}

#[test]
fn a_steady_load_is_divided_by_the_target() {
    // Target 10 × 0.7 = 7; 35 / 7 = 5; the panic window wants as many and 5 < 2 × 5.
    let mut autoscaler = kpa(&Scaling::default(), 10);
    let decided = Load { concurrency: 35.0, from_s: 0, to_s: 120 }.drive(&mut autoscaler, |n| n, 5);
    assert_eq!(decided, vec![5; 61]);
    // 36 / 7 = 5.14…: six, as soon as the average over the window is above 35, here at once: (60×35 − 35 + 36) / 60.
    let decided = Load { concurrency: 36.0, from_s: 121, to_s: 122 }.drive(&mut autoscaler, |n| n, 5);
    assert_eq!(decided, vec![6]);
}

#[test]
fn the_target_is_that_of_the_annotation_within_the_concurrency() {
    for (target, concurrency, expected) in [
        (None, 0, 2),         // 100 × 0.7 = 70, 100 / 70 → 2
        (Some(50.0), 0, 3),   // 35 → 3
        (Some(50.0), 10, 15), // min(50, 10) × 0.7 = 7 → 15
        (Some(5.0), 10, 29),  // 3.5 → 29
    ] {
        let scaling = Scaling { target, panic_threshold: 1e6, ..Scaling::default() };
        let mut autoscaler = kpa(&scaling, concurrency);
        autoscaler.record(0, 0, &sample(100.0));
        let decided = autoscaler.decide(0, NOTHING, ready(1)).sandboxes;
        assert_eq!(decided, expected, "target {target:?}, concurrency {concurrency}");
    }
}

#[test]
fn a_burst_panics_holds_its_maximum_and_leaves_after_a_stable_window() {
    // Windows of 20 s and 2 s; target 1.
    let scaling = Scaling { target_utilization: 1.0, stable_window: seconds(20), ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    let steady = Load { concurrency: 1.0, from_s: 0, to_s: 20 }.drive(&mut autoscaler, |n| n, 1);
    assert_eq!(steady, vec![1; 11]);
    // Seconds 21 and 22 at 10: panic average 10 ≥ 2 × 1; the stable one is (18 × 1 + 2 × 10) / 20 = 1.9 only.
    let burst = Load { concurrency: 10.0, from_s: 21, to_s: 22 }.drive(&mut autoscaler, |n| n, 1);
    assert_eq!(burst, vec![10]);
    // Quiet from 23 on. Panic ended 20 s after second 22, that is at the first tick later than 42: 44. By then the
    // stable window (25 to 44) is empty, so that the rate limit decides: floor(10 / 2).
    let quiet = Load { concurrency: 0.0, from_s: 23, to_s: 50 }.drive(&mut autoscaler, |n| n, 10);
    // At 50, floor(1 / 2) = 0: active for more than 20 s, known for more than the grace of 30 s, so that the last goes.
    assert_eq!(quiet, [vec![10; 10], vec![5, 2, 1, 0]].concat());
}

#[test]
fn panic_begins_at_its_threshold_and_not_below() {
    // Target 1, two sandboxes, threshold 2: at 4 in the panic window (2 s), and 4 / 2 is enough.
    let scaling = Scaling { target_utilization: 1.0, stable_window: seconds(20), ..Scaling::default() };
    for (burst, after) in [
        // ceil(3 / 1) = 3, and 3 / 2 < 2: no panic. Twenty seconds later the average is that of the load after it, 2.
        (3.0, 2),
        // 4 / 2 = 2: panic. It holds 4 until more than 20 s later.
        (4.0, 4),
    ] {
        let mut autoscaler = kpa(&scaling, 1);
        Load { concurrency: 2.0, from_s: 1, to_s: 20 }.drive(&mut autoscaler, |_| 2, 2);
        Load { concurrency: burst, from_s: 21, to_s: 22 }.drive(&mut autoscaler, |_| 2, 2);
        let later = Load { concurrency: 2.0, from_s: 23, to_s: 42 }.drive(&mut autoscaler, |_| 2, 2);
        assert_eq!(later.last(), Some(&after), "after a burst of {burst}: {later:?}");
    }
}

#[test]
fn panic_is_extended_while_it_lasts() {
    let scaling = Scaling { target_utilization: 1.0, stable_window: seconds(20), ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    Load { concurrency: 1.0, from_s: 0, to_s: 20 }.drive(&mut autoscaler, |n| n, 1);
    // Over the threshold until second 30 (only one sandbox becomes ready), so not left before 50.
    Load { concurrency: 4.0, from_s: 21, to_s: 30 }.drive(&mut autoscaler, |_| 1, 1);
    let quiet = Load { concurrency: 0.0, from_s: 31, to_s: 52 }.drive(&mut autoscaler, |n| n, 1);
    assert_eq!(quiet, [vec![4; 10], vec![2]].concat(), "still 4 at 50, floor(4 / 2) at 52");
}

#[test]
fn one_decision_scales_up_at_most_by_the_rate() {
    // ceil(1.1 × 2) = 3 though 10 are wanted: Knative's own example of a rate that would otherwise not grow.
    let scaling =
        Scaling { target_utilization: 1.0, max_scale_up_rate: 1.1, panic_threshold: 1e6, ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    autoscaler.record(0, 0, &sample(10.0));
    assert_eq!(autoscaler.decide(0, NOTHING, ready(2)).sandboxes, 3);
}

#[test]
fn one_decision_scales_down_at_most_by_the_rate() {
    let scaling = Scaling { max_scale_down_rate: 4.0, ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    // More than one sandbox found at the start: panic, until more than a stable window later.
    assert_eq!(autoscaler.decide(0, NOTHING, ready(10)).sandboxes, 10);
    for tick in 1..=30 {
        assert_eq!(autoscaler.decide(tick * TICK_MS, NOTHING, ready(10)).sandboxes, 10, "at {tick}");
    }
    assert_eq!(autoscaler.decide(62_000, NOTHING, ready(10)).sandboxes, 2, "floor(10 / 4)");
    assert_eq!(autoscaler.decide(64_000, NOTHING, ready(2)).sandboxes, 0, "floor(2 / 4)");
}

#[test]
fn a_lower_count_waits_for_the_scale_down_delay() {
    let scaling = Scaling {
        target_utilization: 1.0,
        stable_window: seconds(6),
        scale_down_delay: seconds(10),
        panic_threshold: 1e6,
        scale_to_zero_grace: seconds(1),
        ..Scaling::default()
    };
    let mut autoscaler = kpa(&scaling, 1);
    let busy = Load { concurrency: 4.0, from_s: 0, to_s: 10 }.drive(&mut autoscaler, |_| 1, 1);
    assert_eq!(busy, vec![4; 6]);
    // The average over 6 s, rounded up: 12 → 16/6 → 3, 14 → 8/6 → 2, 16 → 0. Of ten seconds there are five ticks, so
    // that each count is held until five ticks later: 4 (last at 10) until 18, 3 (at 12) until 20, 2 (at 14) until 22.
    let quiet = Load { concurrency: 0.0, from_s: 11, to_s: 26 }.drive(&mut autoscaler, |_| 1, 1);
    assert_eq!(quiet, vec![4, 4, 4, 4, 3, 2, 0, 0]);
}

#[test]
fn bounds_hold_and_a_lower_bound_never_goes_to_zero() {
    // Without data 0, raised to 3. Then 50 / 0.7 = 71.4: 72, cut to 4. In the end floor(4 / 2) = 2, raised to 3.
    let scaling = Scaling { min: 3, max: Some(4), ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    assert_eq!(autoscaler.decide(0, NOTHING, ready(0)).sandboxes, 3, "also before any data");
    autoscaler.record(1_000, 0, &sample(50.0));
    assert_eq!(autoscaler.decide(2_000, NOTHING, ready(3)).sandboxes, 4);
    for tick in 2..100 {
        let decided = autoscaler.decide(tick * TICK_MS, NOTHING, ready(4)).sandboxes;
        assert!((3..=4).contains(&decided), "{decided} at {tick}");
    }
    assert_eq!(autoscaler.decide(200_000, NOTHING, ready(4)).sandboxes, 3);
}

#[test]
fn an_active_function_has_at_least_its_activation_scale() {
    // ceil(1 / 0.7) = 2, also by rate: ceil(1.5 × 1) = 2. The activation scale comes after the rate: 5.
    let scaling = Scaling { activation_scale: 5, max_scale_up_rate: 1.5, ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    assert_eq!(autoscaler.decide(0, FIRST, ready(0)).sandboxes, 5);
    // 7 / 0.7 = 10, by rate ceil(1.5 × 5) = 8: more than the activation scale, which so changes nothing.
    let mut busy = kpa(&scaling, 1);
    busy.record(0, 0, &sample(7.0));
    assert_eq!(busy.decide(0, NOTHING, ready(5)).sandboxes, 8);
    // The bound comes last.
    let mut bounded = kpa(&Scaling { max: Some(3), ..scaling.clone() }, 1);
    assert_eq!(bounded.decide(0, FIRST, ready(0)).sandboxes, 3);
    let mut quiet = kpa(&scaling, 1);
    quiet.record(0, 0, &sample(0.0));
    assert_eq!(quiet.decide(0, NOTHING, ready(0)).sandboxes, 0, "but none is none");
}

#[test]
fn the_first_request_is_counted_once() {
    let mut autoscaler = kpa(&Scaling { target_utilization: 1.0, ..Scaling::default() }, 1);
    assert_eq!(autoscaler.decide(100, FIRST, ready(0)).sandboxes, 1);
    // The first sample covers it: 1 + (3 − 1). The next, of another data plane, does not: + 2.
    autoscaler.record(800, 0, &sample(3.0));
    autoscaler.record(900, 1, &sample(2.0));
    assert_eq!(autoscaler.decide(2_100, NOTHING, ready(0)).sandboxes, 5);
}

#[test]
fn a_report_of_traffic_starts_the_tick() {
    let mut autoscaler = kpa(&Scaling::default(), 1);
    autoscaler.record(0, 0, &sample(0.0));
    assert_eq!(autoscaler.tick_ms(), None);
    autoscaler.record(1_000, 0, &sample(0.1));
    assert_eq!(autoscaler.tick_ms(), Some(TICK_MS));
}

/// An observation of the real system with its defaults: scaled to zero 62 s after the only request.
#[test]
fn one_request_keeps_its_sandbox_for_62_seconds() {
    let scaling = Scaling { max: Some(1), ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    assert_eq!(autoscaler.decide(0, FIRST, ready(0)).sandboxes, 1);
    // The sample covers what the first request already was counted for.
    autoscaler.record(1_000, 0, &sample(0.3));
    for second in 1..62 {
        let decision = autoscaler.decide(second * 1_000, NOTHING, ready(1));
        assert_eq!(decision.sandboxes, 1, "at {second} s");
    }
    // 2 … 60: panic has not ended (0 + 60 < 60 is false). 62: it has, the window is empty, active since second 1.
    let decision = autoscaler.decide(62_000, NOTHING, ready(1));
    assert_eq!((decision.sandboxes, decision.drain), (0, true));
}

/// The published sweep: stable window 6 s, panic window 2 s, grace 1 s, at most one sandbox.
#[test]
fn the_published_sweep_scales_to_zero_after_eight_seconds() {
    let scaling = Scaling {
        max: Some(1),
        stable_window: seconds(6),
        panic_window: Some(seconds(2)),
        scale_to_zero_grace: seconds(1),
        ..Scaling::default()
    };
    let mut autoscaler = kpa(&scaling, 1);
    assert_eq!(autoscaler.decide(0, FIRST, ready(0)).sandboxes, 1, "ceil(1 / 0.7) = 2, which is panic, bounded to 1");
    autoscaler.record(1_000, 0, &sample(0.1));
    // Panic since 0 has not ended at 6 (0 + 6 < 6 is false), but at 8. Then the window (3 to 8) has zeros only and
    // floor(1 / 2) = 0; active since 2, which is 6 s ago, and known for more than the grace.
    let decided: Vec<_> = (1..=4).map(|tick| autoscaler.decide(tick * TICK_MS, NOTHING, ready(1)).sandboxes).collect();
    assert_eq!(decided, [1, 1, 1, 0]);
}

#[test]
fn an_idle_function_stops_ticking_and_can_be_woken_again() {
    let mut autoscaler = kpa(&Scaling { max: Some(1), ..Scaling::default() }, 1);
    assert_eq!(autoscaler.tick_ms(), None, "nothing has happened yet");
    for round in 0..3 {
        let start_ms = round * 1_000_000 + 700;
        assert_eq!(autoscaler.decide(start_ms, FIRST, ready(0)).sandboxes, 1, "round {round}");
        let mut now_ms = start_ms;
        let mut have = 1;
        let mut last_wait = None;
        for _ in 0..200 {
            let decision = autoscaler.decide(now_ms, NOTHING, ready(have));
            have = decision.sandboxes;
            last_wait = decision.again_in_ms;
            let Some(wait_ms) = decision.again_in_ms else { break };
            now_ms += wait_ms;
        }
        assert_eq!((have, last_wait, autoscaler.tick_ms()), (0, None, None), "at rest, round {round}");
        assert!(now_ms - start_ms < 200_000, "history forgotten after {} ms", now_ms - start_ms);
    }
}

#[test]
fn a_function_that_never_becomes_ready_is_scaled_to_zero() {
    let mut autoscaler = kpa(&Scaling::default(), 1);
    let starting = |starting| Supply { ready: 0, starting, concurrency: 1 };
    assert_eq!(autoscaler.decide(0, FIRST, starting(0)).sandboxes, 2);
    autoscaler.record(1_000, 0, &sample(1.0));
    let (mut now_ms, mut have) = (0, 2);
    while let Some(wait_ms) = autoscaler.decide(now_ms, NOTHING, starting(have)).again_in_ms {
        now_ms += wait_ms;
        assert!(now_ms < 700_000, "still deciding");
        have = autoscaler.decide(now_ms, NOTHING, starting(have)).sandboxes;
        assert_eq!(have, if now_ms < 630_000 { 2 } else { 0 }, "at {now_ms}: an activation has 630 s");
    }
    assert_eq!(have, 0);
}

#[test]
fn between_ticks_the_count_is_unchanged() {
    let mut autoscaler = kpa(&Scaling::default(), 1);
    autoscaler.record(0, 0, &sample(3.0));
    assert_eq!(autoscaler.decide(0, NOTHING, ready(1)).sandboxes, 5, "ceil(3 / 0.7)");
    autoscaler.record(1_000, 0, &sample(30.0));
    let decision = autoscaler.decide(1_500, Demand { waiting: 30, running: 3 }, ready(1));
    assert_eq!((decision.sandboxes, decision.again_in_ms), (5, Some(500)));
    assert_eq!(autoscaler.decide(2_000, NOTHING, ready(1)).sandboxes, 16, "33 over seconds 0, 1 and 2, the last empty");
}

#[test]
fn samples_of_data_planes_add_up() {
    let mut autoscaler = kpa(&Scaling::default(), 10);
    autoscaler.record(100, 1, &sample(7.0));
    autoscaler.record(600, 2, &sample(7.0));
    assert_eq!(autoscaler.decide(900, NOTHING, ready(1)).sandboxes, 2);
}

#[test]
fn a_sample_of_another_length_counts_by_its_average() {
    let mut autoscaler = kpa(&Scaling::default(), 10);
    let short = Sample { span_ms: 500, concurrency_us: 7_000_000, ..Sample::default() };
    autoscaler.record(0, 0, &short);
    assert_eq!(autoscaler.decide(0, NOTHING, ready(1)).sandboxes, 2, "14 on average");
}

#[test]
fn parameters_change_live_and_history_stays() {
    let scaling = Scaling { panic_threshold: 1e6, target_utilization: 1.0, ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    let long = Load { concurrency: 1.0, from_s: 1, to_s: 54 }.drive(&mut autoscaler, |_| 1, 1);
    assert_eq!(long, vec![1; 27]);
    let short = Load { concurrency: 10.0, from_s: 55, to_s: 60 }.drive(&mut autoscaler, |_| 1, 1);
    assert_eq!(short, vec![2, 2, 2], "(54 + 60) / 60");
    // The last 12 seconds are 51 to 62: four at 1, six at 10 and two at 0.
    autoscaler.retune(&Scaling { stable_window: seconds(12), ..scaling.clone() }, 1);
    autoscaler.record(61_000, 0, &sample(0.0));
    assert_eq!(autoscaler.decide(62_000, NOTHING, ready(1)).sandboxes, 6, "(4 + 60) / 12 = 5.3");
    autoscaler.retune(&Scaling { max: Some(4), ..scaling.clone() }, 1);
    assert_eq!(autoscaler.decide(62_001, NOTHING, ready(10)).sandboxes, 4, "bounds hold at once");
}

#[test]
fn the_panic_window_changes_live() {
    let scaling = Scaling { target_utilization: 1.0, panic_window: Some(seconds(20)), ..Scaling::default() };
    let mut autoscaler = kpa(&scaling, 1);
    Load { concurrency: 1.0, from_s: 1, to_s: 58 }.drive(&mut autoscaler, |_| 1, 1);
    // Two seconds at 5: over 20 seconds 28 / 20 → 2, which is 2 × 1 and so panic already; over 2 seconds 5.
    autoscaler.retune(&Scaling { panic_window: Some(seconds(2)), ..scaling }, 1);
    let burst = Load { concurrency: 5.0, from_s: 59, to_s: 60 }.drive(&mut autoscaler, |_| 1, 1);
    assert_eq!(burst, vec![5]);
}

/// The formulas again, over a list of all reports, with the definitions of the windows.
struct Plain {
    scaling: Scaling,
    target: f64,
    reports: Vec<(u64, f64)>,
    panic_ms: Option<u64>,
    max_panic: f64,
    counts: Vec<(u64, f64)>,
}

impl Plain {
    /// Reports never pause for a whole window here, so that every partial window begins with the first one.
    fn average(&self, window: Duration, second: u64) -> f64 {
        let first = self.reports.first().unwrap().0;
        let oldest = (second + 1).saturating_sub(window.as_secs()).max(first);
        let sum: f64 = self.reports.iter().filter(|(at, _)| *at >= oldest).map(|(_, value)| value).sum();
        (sum / (second - oldest + 1) as f64 * 1e6 + 1e-3).floor() / 1e6
    }

    fn decide(&mut self, now_ms: u64, ready: u32) -> f64 {
        let (scaling, second) = (self.scaling.clone(), now_ms / 1_000);
        let r = f64::from(ready.max(1));
        let (up, down) = ((scaling.max_scale_up_rate * r).ceil(), (r / scaling.max_scale_down_rate).floor());
        let stable = (self.average(scaling.stable_window, second) / self.target).ceil();
        let panic = (self.average(scaling.panic_window(), second) / self.target).ceil();
        let activation = f64::from(scaling.activation_scale);
        let limit = |wants: f64| {
            let desired = wants.max(down).min(up);
            if activation > 1.0 && wants > 0.0 { desired.max(activation) } else { desired }
        };
        if panic / r >= scaling.panic_threshold {
            self.panic_ms = Some(now_ms);
        } else if self.panic_ms.is_some_and(|at| u128::from(now_ms - at) > scaling.stable_window.as_millis()) {
            (self.panic_ms, self.max_panic) = (None, 0.0);
        }
        let mut desired = limit(stable);
        if self.panic_ms.is_some() {
            self.max_panic = self.max_panic.max(desired).max(limit(panic));
            desired = self.max_panic;
        }
        let tick = now_ms / TICK_MS;
        self.counts.push((tick, desired));
        let ticks = (scaling.scale_down_delay.as_secs()).div_ceil(2).max(1);
        self.counts.iter().filter(|(at, _)| at + ticks > tick).map(|(_, count)| *count).fold(0.0, f64::max)
    }
}

prop_compose! {
    fn any_scaling()(
        stable in 6u64..30, panic in 1u64..6, threshold in 1.1f64..5.0, up in 1.1f64..20.0, down in 1.1f64..5.0,
        delay in 0u64..12, activation in 1u32..6, max in 5u32..40, utilization in 0.2f64..1.0,
    ) -> Scaling {
        Scaling {
            min: 1,
            max: Some(max),
            target_utilization: utilization,
            stable_window: seconds(stable),
            panic_window: Some(seconds(panic)),
            panic_threshold: threshold,
            max_scale_up_rate: up,
            max_scale_down_rate: down,
            scale_down_delay: seconds(delay),
            activation_scale: activation,
            ..Scaling::default()
        }
    }
}

proptest! {
    #[test]
    fn the_formulas_are_followed(
        scaling in any_scaling(), concurrency in 1u32..20,
        // For each second: the concurrency (in quarters, exact in binary), and the share of desired sandboxes that
        // became ready.
        seconds in prop::collection::vec((0u32..200, 0u32..4), 2..120),
    ) {
        let mut autoscaler = kpa(&scaling, concurrency);
        let target = (f64::from(concurrency) * scaling.target_utilization).max(0.01);
        let mut plain =
            Plain { scaling: scaling.clone(), target, reports: vec![], panic_ms: None, max_panic: 0.0, counts: vec![] };
        let mut have = 1u32;
        for (second, (quarters, lag)) in seconds.into_iter().enumerate() {
            let now_ms = second as u64 * 1_000;
            let running = if quarters < 60 { 0.0 } else { f64::from(quarters) / 4.0 };
            autoscaler.record(now_ms, 0, &sample(running));
            plain.reports.push((second as u64, running));
            if now_ms.is_multiple_of(TICK_MS) {
                let decided = autoscaler.decide(now_ms, NOTHING, ready(have)).sandboxes;
                let expected = plain.decide(now_ms, have).clamp(1.0, f64::from(scaling.max.unwrap()));
                prop_assert_eq!(f64::from(decided), expected, "at {} s with {} ready", second, have);
                have = if lag == 0 { have } else { decided };
            }
        }
    }
}
