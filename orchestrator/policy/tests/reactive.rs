//! `reactive` step by step, and its guarantees over random histories.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use model::Scaling;
use policy::autoscale::{Autoscaler, Decision, Demand, Sample, Supply, find, policies};
use proptest::prelude::*;

const WINDOW_MS: u64 = 60_000;
/// A peak may be reported a second late, and is kept by sixty-fourths of the window.
const LATE_MS: u64 = 1_000 + WINDOW_MS / 64 + 1;

fn reactive(scaling: &Scaling) -> Autoscaler {
    Autoscaler::new(find("reactive").unwrap(), scaling, 1)
}

fn demand(waiting: u32, running: u32) -> Demand {
    Demand { waiting, running }
}

fn supply(ready: u32, starting: u32) -> Supply {
    Supply { ready, starting, concurrency: 1 }
}

fn busy(peak: u32, running: u32) -> Sample {
    Sample { span_ms: 1_000, requests: 1, running, peak, ..Sample::default() }
}

#[test]
fn it_is_the_default() {
    assert_eq!(policies()[0].name, "reactive");
    assert!(find("reactive").is_some() && find("kpa").is_some() && find("other").is_none());
}

#[test]
fn waiting_invocations_start_missing_sandboxes_at_once() {
    let mut autoscaler = reactive(&Scaling::default());
    assert!(autoscaler.on_demand());
    let decision = autoscaler.decide(0, demand(1, 0), supply(0, 0));
    assert_eq!((decision.sandboxes, decision.creations), (1, 1), "one request, one sandbox");
    assert_eq!(autoscaler.decide(1, demand(3, 0), supply(0, 1)).sandboxes, 3, "starting ones count");
    assert_eq!(autoscaler.decide(2, demand(3, 0), supply(0, 3)).sandboxes, 3, "nothing twice");
    assert_eq!(autoscaler.decide(3, demand(1, 2), supply(3, 0)).sandboxes, 3, "the third is free: no more");
    assert_eq!(autoscaler.decide(4, demand(1, 3), supply(3, 0)).sandboxes, 4);
}

#[test]
fn concurrency_is_filled_before_sandboxes_are_created() {
    let mut autoscaler = reactive(&Scaling::default());
    let ten = |ready, starting| Supply { ready, starting, concurrency: 10 };
    assert_eq!(autoscaler.decide(0, demand(25, 0), ten(0, 0)).sandboxes, 3);
    assert_eq!(autoscaler.decide(1, demand(5, 25), ten(3, 0)).sandboxes, 3);
    assert_eq!(autoscaler.decide(2, demand(6, 25), ten(3, 0)).sandboxes, 4);
}

#[test]
fn invocations_that_run_elsewhere_do_not_start_sandboxes() {
    // Two run in draining sandboxes, which are not supply.
    let decision = reactive(&Scaling::default()).decide(0, demand(0, 2), supply(0, 0));
    assert_eq!(decision.sandboxes, 0);
    let decision = reactive(&Scaling::default()).decide(0, demand(1, 2), supply(0, 0));
    assert_eq!(decision.sandboxes, 1);
}

#[test]
fn creations_without_demand_may_be_cancelled_but_are_not_surplus() {
    let mut autoscaler = reactive(&Scaling::default());
    assert_eq!(autoscaler.decide(0, demand(10, 0), supply(0, 0)).creations, 10);
    let decision = autoscaler.decide(50, demand(1, 1), supply(1, 9));
    assert_eq!((decision.sandboxes, decision.creations), (10, 1), "the rest was served by freed slots");
    let decision = autoscaler.decide(60, demand(0, 0), supply(1, 9));
    assert_eq!((decision.sandboxes, decision.creations), (10, 0));
}

#[test]
fn sandboxes_that_the_window_needed_stay_and_the_others_go() {
    let mut autoscaler = reactive(&Scaling::default());
    let _ = autoscaler.decide(0, demand(5, 0), supply(0, 0));
    let mut now_ms = 0;
    // From now on one invocation after the other: five sandboxes are held for a window, then one.
    loop {
        now_ms += 1_000;
        autoscaler.record(now_ms, 0, &busy(1, 1));
        let decision = autoscaler.decide(now_ms, demand(0, 1), supply(5, 0));
        assert!(!decision.drain);
        if decision.sandboxes < 5 {
            assert_eq!((decision.sandboxes, decision.min_idle_ms), (1, 0));
            assert_eq!(decision.again_in_ms, Some(1_000), "until somebody has given up the surplus");
            break;
        }
        assert!(decision.again_in_ms.is_some_and(|ms| ms > 0), "there is more than the minimum: it decides again");
    }
    assert!((WINDOW_MS..=WINDOW_MS + LATE_MS + 1_000).contains(&now_ms), "gone after {now_ms} ms");
}

#[test]
fn the_last_sandbox_lives_for_the_keep_alive() {
    for (keep_alive_s, window_s) in [(10, 60), (60, 60), (300, 60)] {
        let scaling = Scaling {
            keep_alive: Some(Duration::from_secs(keep_alive_s)),
            stable_window: Duration::from_secs(window_s),
            ..Scaling::default()
        };
        let mut autoscaler = reactive(&scaling);
        let _ = autoscaler.decide(0, demand(3, 0), supply(0, 0));
        // The last invocation ends at 5 s; from then on only the timer decides.
        let mut now_ms = 5_000;
        let mut have = 3;
        while let Some(wait_ms) = autoscaler.decide(now_ms, demand(0, 0), supply(have, 0)).again_in_ms {
            now_ms += wait_ms;
            let decision = autoscaler.decide(now_ms, demand(0, 0), supply(have, 0));
            let idle_ms = now_ms - 5_000;
            assert_eq!(decision.sandboxes == 0, idle_ms >= keep_alive_s * 1_000, "after {idle_ms} ms");
            if decision.sandboxes == 0 {
                assert_eq!(decision.min_idle_ms, keep_alive_s * 1_000, "the data plane knows the last request best");
            }
            have = decision.sandboxes;
        }
        assert_eq!((have, now_ms), (0, 5_000 + keep_alive_s * 1_000), "not a millisecond later either");
    }
}

#[test]
fn a_sample_alone_keeps_the_function_alive() {
    let mut autoscaler = reactive(&Scaling::default());
    let _ = autoscaler.decide(0, demand(1, 0), supply(0, 0));
    let _ = autoscaler.decide(500, demand(0, 0), supply(1, 0));
    // A warm request came and went between two reports.
    autoscaler.record(50_000, 0, &Sample { span_ms: 1_000, requests: 1, peak: 1, ..Sample::default() });
    assert_eq!(autoscaler.decide(109_999, demand(0, 0), supply(1, 0)).sandboxes, 1);
    assert_eq!(autoscaler.decide(110_000, demand(0, 0), supply(1, 0)).sandboxes, 0);
}

#[test]
fn sandboxes_of_unknown_age_are_not_scaled_down_at_once() {
    let mut autoscaler = reactive(&Scaling::default());
    let decision = autoscaler.decide(7_000_000, demand(0, 0), supply(1, 0));
    assert_eq!((decision.sandboxes, decision.again_in_ms), (1, Some(WINDOW_MS)));
    assert_eq!(autoscaler.decide(7_000_000 + WINDOW_MS, demand(0, 0), supply(1, 0)).sandboxes, 0);
}

#[test]
fn peaks_of_data_planes_add_up_and_a_silent_one_is_forgotten() {
    let mut autoscaler = reactive(&Scaling::default());
    autoscaler.record(1_000, 1, &busy(2, 0));
    autoscaler.record(1_500, 2, &busy(3, 0));
    assert_eq!(autoscaler.decide(1_600, demand(0, 0), supply(9, 0)).sandboxes, 5);
    autoscaler.record(30_000, 2, &busy(3, 0));
    let later = autoscaler.decide(1_500 + WINDOW_MS + LATE_MS, demand(0, 0), supply(9, 0));
    assert_eq!(later.sandboxes, 3, "only the second was heard of in this window");
}

#[test]
fn bounds_hold_also_when_they_change() {
    let mut autoscaler = reactive(&Scaling { min: 2, max: Some(4), ..Scaling::default() });
    let idle = autoscaler.decide(0, demand(0, 0), supply(0, 0));
    assert_eq!((idle.sandboxes, idle.creations), (2, 2), "the minimum needs no demand");
    assert_eq!(autoscaler.decide(1, demand(9, 0), supply(2, 0)).sandboxes, 4);
    assert_eq!(autoscaler.decide(1_000_000, demand(0, 0), supply(2, 0)).again_in_ms, None, "at rest");
    autoscaler.retune(&Scaling { max: Some(3), ..Scaling::default() }, 1);
    let beyond = autoscaler.decide(1_000_001, demand(0, 4), supply(4, 0));
    assert_eq!((beyond.sandboxes, beyond.drain), (3, true), "what is beyond the bound goes although it is busy");
}

#[test]
fn the_peak_of_the_window_is_forgotten_after_the_keep_alive() {
    let keep_alive = Some(Duration::from_secs(1));
    let mut autoscaler = reactive(&Scaling { keep_alive, ..Scaling::default() });
    assert_eq!(autoscaler.decide(0, demand(0, 3), supply(3, 0)).sandboxes, 3);
    assert_eq!(autoscaler.decide(1, demand(0, 0), supply(3, 0)).sandboxes, 3, "the window holds them");
    assert_eq!(
        autoscaler.decide(3_000, demand(0, 0), supply(3, 0)).sandboxes,
        0,
        "nothing was asked for more than 1 s"
    );
    // Before the three could be removed, one is used again: only that one is kept.
    assert_eq!(autoscaler.decide(3_001, demand(0, 1), supply(3, 0)).sandboxes, 1);
}

#[test]
fn a_changed_concurrency_divides_the_same_demand() {
    let mut autoscaler = reactive(&Scaling::default());
    let _ = autoscaler.decide(0, demand(0, 10), supply(10, 0));
    let two = Supply { ready: 10, starting: 0, concurrency: 2 };
    assert_eq!(autoscaler.decide(1, demand(0, 0), two).sandboxes, 5);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Demand(u32, u32),
    Sample(u32, u32),
    /// Starting sandboxes become ready.
    Ready,
    /// A ready sandbox is lost.
    Lose,
    /// Surplus is removed as decided.
    Shrink,
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..30, 0u32..30).prop_map(|(waiting, running)| Step::Demand(waiting, running)),
        2 => (0u32..3, 0u32..60).prop_map(|(source, peak)| Step::Sample(source, peak)),
        3 => Just(Step::Ready),
        1 => Just(Step::Lose),
        2 => Just(Step::Shrink),
        4 => (1u64..30_000).prop_map(Step::Wait),
    ]
}

/// The full history shown to the autoscaler, without windows or buckets.
struct World {
    now_ms: u64,
    demand: Demand,
    supply: Supply,
    /// (time, invocations at once)
    seen: Vec<(u64, u32)>,
    last: Option<Decision>,
}

impl World {
    fn apply(&mut self, step: Step, autoscaler: &mut Autoscaler) {
        match step {
            Step::Demand(waiting, running) => self.demand = demand(waiting, running),
            Step::Sample(source, peak) => {
                autoscaler.record(self.now_ms, source, &busy(peak, 0));
                self.seen.push((self.now_ms, peak));
            }
            Step::Ready => {
                self.supply.ready += std::mem::take(&mut self.supply.starting);
            }
            Step::Lose => self.supply.ready = self.supply.ready.saturating_sub(1),
            Step::Shrink => {
                let wanted = self.last.map_or(u32::MAX, |decision| decision.sandboxes);
                let surplus = (self.supply.ready + self.supply.starting).saturating_sub(wanted);
                self.supply.ready = self.supply.ready.saturating_sub(surplus);
            }
            Step::Wait(ms) => self.now_ms += ms,
        }
    }

    /// Decides, checks the guarantees and starts the creations.
    fn decide(&mut self, autoscaler: &mut Autoscaler, scaling: &Scaling) -> Result<(), TestCaseError> {
        let Demand { waiting, running } = self.demand;
        if waiting + running > 0 {
            self.seen.push((self.now_ms, waiting + running));
        }
        let decision = autoscaler.decide(self.now_ms, self.demand, self.supply);
        let (exists, slots) = (self.supply.ready + self.supply.starting, self.supply.concurrency);
        let max = scaling.upper_bound();
        let wanted = decision.sandboxes;

        prop_assert!((scaling.min..=max).contains(&wanted), "{:?} within bounds", decision);
        let lacks = waiting > (self.supply.ready * slots).saturating_sub(running) + self.supply.starting * slots;
        if lacks {
            prop_assert!(
                wanted == max || wanted * slots >= waiting.max(exists * slots + 1),
                "covers {:?}",
                self.demand
            );
            let free = (self.supply.ready * slots).saturating_sub(running);
            let exact = self.supply.ready + (waiting - free).div_ceil(slots);
            prop_assert!(wanted <= exact.max(scaling.min), "{} starts no more than {}", wanted, exact);
        } else {
            prop_assert!(wanted <= exists.max(scaling.min), "{:?} creates without need", decision);
        }
        let runs = (waiting + running).div_ceil(slots).min(exists).min(max);
        prop_assert!(wanted >= runs, "{:?} below what runs", decision);

        let window_ms = u64::try_from(scaling.stable_window.as_millis()).unwrap();
        let keep_alive_ms = u64::try_from(scaling.keep_alive().as_millis()).unwrap();
        let active = self.seen.iter().map(|(at, _)| *at).max();
        let is_active = active.is_some_and(|at| self.now_ms - at < keep_alive_ms);
        if waiting + running == 0 && !is_active {
            // Everything may go, and later samples do not bring it back.
            self.seen.clear();
        }
        if is_active {
            let recent = self.seen.iter().filter(|(at, _)| self.now_ms - at <= window_ms).map(|(_, n)| *n).max();
            let held = recent.unwrap_or(0).div_ceil(slots).max(1).min(exists).min(max);
            prop_assert!(wanted >= held, "{:?} at {}: the window needed {}", decision, self.now_ms, held);
        }
        if exists > scaling.min {
            prop_assert!(decision.again_in_ms.is_some_and(|ms| ms > 0), "{:?} would be forgotten", decision);
        }
        self.supply.starting += wanted.saturating_sub(exists);
        self.last = Some(decision);
        Ok(())
    }
}

proptest! {
    #[test]
    fn its_guarantees_hold_and_it_converges(
        steps in prop::collection::vec(any_step(), 1..150),
        slots in 1u32..5, min in 0u32..3, max in 3u32..60, keep_alive_s in prop::option::of(1u64..200),
    ) {
        let keep_alive = keep_alive_s.map(Duration::from_secs);
        let scaling = Scaling { min, max: Some(max), keep_alive, ..Scaling::default() };
        let mut autoscaler = reactive(&scaling);
        let mut world = World {
            now_ms: 0,
            demand: demand(0, 0),
            supply: Supply { ready: 0, starting: 0, concurrency: slots },
            seen: vec![],
            last: None,
        };
        for step in steps {
            world.apply(step, &mut autoscaler);
            world.decide(&mut autoscaler, &scaling)?;
        }
        // Demand ends; from here on only the timer decides, and it must reach the minimum and stop.
        world.demand = demand(0, 0);
        world.supply.ready += std::mem::take(&mut world.supply.starting);
        let quiet_ms = world.now_ms;
        let mut rounds = 0;
        loop {
            world.decide(&mut autoscaler, &scaling)?;
            world.apply(Step::Shrink, &mut autoscaler);
            world.decide(&mut autoscaler, &scaling)?;
            let Some(wait_ms) = world.last.unwrap().again_in_ms else { break };
            world.now_ms += wait_ms;
            rounds += 1;
            prop_assert!(rounds < 300, "still deciding after {} ms", world.now_ms - quiet_ms);
        }
        prop_assert!(world.supply.ready <= min, "{} left at rest", world.supply.ready);
        let longest = keep_alive_s.map_or(WINDOW_MS, |s| s * 1_000).max(WINDOW_MS) + LATE_MS;
        prop_assert!(world.now_ms - quiet_ms <= longest, "rest after {} ms", world.now_ms - quiet_ms);
    }
}
