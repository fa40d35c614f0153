//! Compares `kpa` with Knative's own autoscaler: both are given the same samples and the same numbers of ready
//! sandboxes, and must desire the same at every tick. Only what they desire is compared: how the last sandboxes go is
//! decided elsewhere in Knative (its reconciler waits for activations, windows and graces, and changes nothing
//! meanwhile), so that ours may still ask for what it asked for before where the autoscaler desires none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    env,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use model::Scaling;
use policy::autoscale::{Autoscaler, Demand, Sample, Supply, find};
use serde_json::{Value, json};

/// Knative's tick, in seconds.
const TICK_S: u64 = 2;
/// Length of a series, in seconds: several stable windows.
const LENGTH_S: u64 = 400;

/// A series: concurrency of each second in hundredths, and ready sandboxes at each tick.
struct Series {
    concurrency: Vec<u64>,
    ready: Vec<u32>,
}

impl Series {
    /// Bursts, plateaus and silence, with delayed sandboxes, from a fixed generator (Knuth's MMIX).
    fn of(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let (mut level, mut left) = (0, 0);
        let mut concurrency = Vec::new();
        for _ in 0..LENGTH_S {
            if left == 0 {
                left = 1 + below(40);
                level = [0, 0, 37, 150, 420, 1_900][usize::try_from(below(6)).unwrap()];
            }
            left -= 1;
            concurrency.push(if level == 0 { 0 } else { level + below(level) });
        }
        let mut ready = Vec::new();
        let mut now = 0_i64;
        for second in (0..LENGTH_S).step_by(2) {
            let wanted = i64::try_from(concurrency[usize::try_from(second).unwrap()] / 70).unwrap();
            now += (wanted - now).clamp(-2, 4);
            ready.push(u32::try_from(now.max(0)).unwrap());
        }
        // With more than one at the start Knative would read the real clock.
        ready[0] = 0;
        Self { concurrency, ready }
    }
}

/// The sandboxes that Knative's autoscaler desires at each tick.
fn knatives(series: &Series, scaling: &Scaling, target: f64) -> Vec<i64> {
    let mut events = Vec::new();
    for (second, concurrency) in (0..LENGTH_S).zip(&series.concurrency) {
        events.push(json!({ "at_ms": second * 1_000, "sample": *concurrency as f64 / 100.0 }));
        if second % TICK_S == 0 {
            let ready = series.ready[usize::try_from(second / TICK_S).unwrap()];
            events.push(json!({ "at_ms": second * 1_000, "ready": ready }));
        }
    }
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    let question = json!({
        "target": target,
        "stable_window_ms": ms(scaling.stable_window),
        "panic_window_ms": ms(scaling.panic_window()),
        "panic_threshold": scaling.panic_threshold,
        "max_scale_up_rate": scaling.max_scale_up_rate,
        "max_scale_down_rate": scaling.max_scale_down_rate,
        "scale_down_delay_ms": ms(scaling.scale_down_delay),
        "activation_scale": scaling.activation_scale,
        "events": events,
    });
    let mut child = Command::new(programs::path("knative").unwrap())
        .arg("kpa")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(question.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer.as_array().unwrap().iter().map(|desired| desired.as_i64().unwrap()).collect()
}

/// The sandboxes that our policy decides at each tick.
fn ours(series: &Series, scaling: &Scaling, concurrency: u32) -> Vec<i64> {
    let mut autoscaler = Autoscaler::new(find("kpa").unwrap(), scaling, concurrency);
    let mut decided = Vec::new();
    for (second, in_flight) in (0..LENGTH_S).zip(&series.concurrency) {
        let now_ms = second * 1_000;
        let sample = Sample { span_ms: 1_000, concurrency_us: in_flight * 10_000, ..Sample::default() };
        autoscaler.record(now_ms, 0, &sample);
        if second % TICK_S == 0 {
            let ready = series.ready[usize::try_from(second / TICK_S).unwrap()];
            let supply = Supply { ready, starting: 0, concurrency };
            let decision = autoscaler.decide(now_ms, Demand { waiting: 0, running: 0 }, supply);
            decided.push(i64::from(decision.sandboxes));
        }
    }
    decided
}

#[test]
fn ours_desires_what_knatives_autoscaler_does_knative() {
    if env::var_os("TEST_BASELINE").is_none() {
        let why = "it builds Knative; set TEST_BASELINE=1 to run it";
        programs::say_skipped("ours_desires_what_knatives_autoscaler_does_knative", why);
        return;
    }
    let built = Command::new(programs::path("knative").unwrap()).arg("build").status().unwrap();
    assert!(built.success(), "building the baseline: {built}");
    let seconds = Duration::from_secs;
    let published = Scaling { stable_window: seconds(6), panic_window: Some(seconds(1)), ..Scaling::default() };
    let variants = [
        ("released", Scaling::default(), 1),
        ("published sweep", published, 1),
        ("ten at once", Scaling::default(), 10),
        ("slow rates", Scaling { max_scale_up_rate: 1.5, max_scale_down_rate: 1.2, ..Scaling::default() }, 1),
        ("activation scale", Scaling { activation_scale: 4, ..Scaling::default() }, 1),
        ("delay", Scaling { scale_down_delay: seconds(30), stable_window: seconds(20), ..Scaling::default() }, 1),
        ("easily panicking", Scaling { panic_threshold: 1.1, stable_window: seconds(30), ..Scaling::default() }, 2),
    ];
    for (name, scaling, concurrency) in variants {
        let target = f64::from(concurrency) * scaling.target_utilization;
        let (mut compared, mut panicked) = (0, 0);
        for seed in 1..=8 {
            let series = Series::of(seed);
            let (theirs, ours) = (knatives(&series, &scaling, target), ours(&series, &scaling, concurrency));
            assert_eq!(theirs.len(), ours.len());
            let mut asked = 0;
            for (tick, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
                let at = u64::try_from(tick).unwrap() * TICK_S;
                let same = if *theirs == 0 { *ours <= asked.max(1) } else { theirs == ours };
                asked = *ours;
                assert!(same, "{name}, series {seed}, second {at}: Knative's desires {theirs}, ours {ours}");
                compared += 1;
                panicked += i64::from(*theirs > 10);
            }
        }
        assert!(
            compared == 8 * LENGTH_S / TICK_S && panicked > 0,
            "{name}: {compared} ticks, {panicked} of them large"
        );
    }
}
