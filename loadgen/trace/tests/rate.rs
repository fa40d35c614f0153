//! Rate schedules: their rate, and the promise of a cold one that no function is called again too soon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use trace::{
    Phase, Schedule, TraceError,
    rate::{self, RateArrivals, RateOptions},
};

/// The shortest time between two calls of one function, and the number of functions that are called.
fn shortest_return_ns(schedule: &Schedule) -> (Option<u64>, usize) {
    let mut last = HashMap::new();
    let mut shortest: Option<u64> = None;
    for due in &schedule.invocations {
        if let Some(before) = last.insert(due.function, due.due_ns) {
            shortest = Some(shortest.unwrap_or(u64::MAX).min(due.due_ns - before));
        }
    }
    (shortest, last.len())
}

fn cold(rate_per_s: f64, cooldown: Duration, duration: Duration, arrivals: RateArrivals) -> Schedule {
    let options =
        RateOptions { rate_per_s, duration, cooldown: Some(cooldown), arrivals, run_us: 10, ..RateOptions::default() };
    rate::cold(&options).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rates and cool-downs as people type them, in thousandths, so that ⌈R·C⌉ is known exactly.
    #[test]
    fn a_cold_schedule_calls_rate_times_cooldown_functions_round_robin(rate_milli in 1_u64..2_000_000, cooldown_ms in 1_u64..5_000) {
        let turns = (rate_milli * cooldown_ms).div_ceil(1_000_000);
        let cooldown = Duration::from_millis(cooldown_ms);
        // Long enough for every function and a few calls more, at least one cool-down.
        let duration = cooldown * 2 + Duration::from_secs_f64(3000.0 / rate_milli as f64);
        let schedule = cold(rate_milli as f64 / 1000.0, cooldown, duration, RateArrivals::Equidistant);
        let (shortest, called) = shortest_return_ns(&schedule);
        prop_assert_eq!(schedule.functions.len() as u64, turns);
        prop_assert_eq!(called as u64, turns);
        prop_assert!(shortest.is_none_or(|shortest| u128::from(shortest) >= cooldown.as_nanos()), "{:?}", shortest);
        let rotation = schedule.invocations.windows(2).all(|pair| u64::from(pair[1].function) == (u64::from(pair[0].function) + 1) % turns);
        prop_assert!(rotation, "functions must be called one after another");
    }

    #[test]
    fn random_calls_never_return_to_a_function_before_it_has_cooled(seed in any::<u64>(), rate in 1_u32..500, cooldown_ms in 1_u64..3_000) {
        let options = RateOptions {
            rate_per_s: f64::from(rate), duration: Duration::from_secs(6), cooldown: Some(Duration::from_millis(cooldown_ms)),
            arrivals: RateArrivals::Poisson, run_us: 10, seed, ..RateOptions::default()
        };
        let schedule = rate::cold(&options).unwrap();
        let (shortest, called) = shortest_return_ns(&schedule);
        prop_assert!(shortest.is_none_or(|shortest| shortest >= cooldown_ms * 1_000_000), "{:?}", shortest);
        prop_assert_eq!(called, schedule.functions.len());
    }

    #[test]
    fn calls_at_equal_gaps_are_as_many_as_the_rate_says_and_do_not_drift(rate_milli in 1_u64..5_000_000) {
        let duration = Duration::from_secs(10);
        let options = RateOptions { rate_per_s: rate_milli as f64 / 1000.0, duration, ..RateOptions::default() };
        let schedule = rate::warm(&options).unwrap();
        // Calls at 0, 1/R, … below 10 s.
        prop_assert_eq!(schedule.invocations.len() as u64, (10 * rate_milli).div_ceil(1000).max(1));
        for (call, due) in (0_u128..).zip(&schedule.invocations) {
            let exact = call * 1_000_000_000_000 / u128::from(rate_milli);
            prop_assert!(u128::from(due.due_ns).abs_diff(exact) <= 1, "call {call}: expected {exact}, found {}", due.due_ns);
        }
    }
}

#[test]
fn a_warm_schedule_calls_its_functions_round_robin_and_marks_the_warm_up() {
    let options = RateOptions {
        rate_per_s: 10.0,
        duration: Duration::from_secs(1),
        warmup: Duration::from_millis(300),
        functions: 3,
        run_us: 500,
        memory_mib: 64,
        name_prefix: "warm".to_owned(),
        ..RateOptions::default()
    };
    let schedule = rate::warm(&options).unwrap();
    let functions: Vec<u32> = schedule.invocations.iter().map(|due| due.function).collect();
    assert_eq!(functions, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(schedule.functions[2].name, "warm-00002");
    assert_eq!((schedule.functions[0].invocations, schedule.functions[0].memory_mib), (4, 64));
    let warm = schedule.invocations.iter().filter(|due| due.phase == Phase::Warmup).count();
    assert_eq!((warm, schedule.invocations[3].due_ns, schedule.span_ns), (3, 300_000_000, 1_000_000_000));
}

#[test]
fn a_cold_schedule_shorter_than_the_cooldown_has_a_function_for_each_call() {
    let schedule = cold(50.0, Duration::from_secs(60), Duration::from_secs(2), RateArrivals::Equidistant);
    assert_eq!((schedule.functions.len(), schedule.invocations.len()), (100, 100));
}

#[test]
fn a_poisson_schedule_has_the_rate_and_the_spread_of_one() {
    let options = RateOptions {
        rate_per_s: 1000.0,
        duration: Duration::from_secs(50),
        arrivals: RateArrivals::Poisson,
        ..RateOptions::default()
    };
    let schedule = rate::warm(&options).unwrap();
    assert!(
        schedule.invocations.len().abs_diff(50_000) < 900,
        "{} calls, 4 sigma from 50000",
        schedule.invocations.len()
    );
    let gaps: Vec<f64> = schedule.invocations.windows(2).map(|pair| (pair[1].due_ns - pair[0].due_ns) as f64).collect();
    let long = gaps.iter().filter(|&&gap_ns| gap_ns > 1e6).count() as f64 / gaps.len() as f64;
    assert!((long - (-1.0_f64).exp()).abs() < 0.01, "a share of 1/e of the gaps exceeds their mean, found {long}");
}

#[test]
fn calls_of_a_burst_are_due_at_one_moment_and_bursts_keep_the_rate() {
    let options = RateOptions {
        rate_per_s: 5.0,
        burst: 10,
        duration: Duration::from_secs(6),
        cooldown: Some(Duration::from_secs(3)),
        run_us: 0,
        ..RateOptions::default()
    };
    let schedule = rate::cold(&options).unwrap();
    assert_eq!(schedule.functions.len(), 20, "15 calls in 3 s, in whole bursts");
    let due: Vec<u64> = schedule.invocations.iter().map(|due| due.due_ns).collect();
    let expected: Vec<u64> = [0, 2, 4].into_iter().flat_map(|second| vec![second * 1_000_000_000; 10]).collect();
    assert_eq!(due, expected);
    let within = |burst: usize| schedule.invocations[burst * 10..][..10].iter().map(|due| due.function);
    assert_eq!((within(0).collect::<Vec<_>>(), within(1).next()), ((0..10).collect(), Some(10)));
    assert_eq!(schedule.settings["burst"], "10");
    let random = RateOptions { arrivals: RateArrivals::Poisson, duration: Duration::from_secs(4000), ..options };
    let random = rate::warm(&random).unwrap();
    assert!(random.invocations.chunks(10).all(|burst| burst.iter().all(|due| due.due_ns == burst[0].due_ns)));
    let calls = random.invocations.len() as f64;
    assert!((calls / 20_000.0 - 1.0).abs() < 0.15, "{calls} of 20,000 expected; six deviations are 0.13");
}

#[test]
fn a_rate_schedule_is_a_schedule_and_survives_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedule.csv");
    let schedule = cold(2.5, Duration::from_millis(900), Duration::from_secs(9), RateArrivals::Equidistant);
    schedule.write(&path).unwrap();
    assert_eq!(Schedule::read(&path).unwrap(), schedule);
    assert_eq!((schedule.functions.len(), &schedule.settings["cooldown_ns"][..]), (3, "900000000"));
}

#[test]
fn impossible_rates_are_refused() {
    let good = RateOptions { cooldown: Some(Duration::from_secs(1)), ..RateOptions::default() };
    for (options, expected) in [
        (RateOptions { rate_per_s: 0.0, ..good.clone() }, "rate: "),
        (RateOptions { rate_per_s: f64::NAN, ..good.clone() }, "rate: "),
        (RateOptions { burst: 0, ..good.clone() }, "burst: "),
        (RateOptions { rate_per_s: 1e12, ..good.clone() }, "at most 50000000"),
        (RateOptions { duration: Duration::ZERO, ..good.clone() }, "duration: "),
        (RateOptions { name_prefix: "Rate_".to_owned(), ..good.clone() }, "name-prefix: "),
        (RateOptions { cooldown: None, ..good.clone() }, "cooldown: expected one"),
        (RateOptions { name_prefix: "-r".to_owned(), ..good.clone() }, "name-prefix: "),
        (RateOptions { name_prefix: String::new(), ..good.clone() }, "name-prefix: "),
        (RateOptions { memory_mib: 0, ..good.clone() }, "memory: expected 1 to 1048576 MiB, found 0"),
        (RateOptions { run_us: u64::MAX, ..good.clone() }, "run: expected at most 30 days"),
        (RateOptions { run_us: 1_000_000, ..good.clone() }, "cooldown: expected more than the run time"),
        (RateOptions { rate_per_s: 1e5, cooldown: Some(Duration::from_secs(3600)), ..good.clone() }, "cooldown: "),
    ] {
        let error = rate::cold(&options).unwrap_err();
        assert!(error.to_string().contains(expected), "{options:?}: expected {expected}, found {error}");
    }
    let error = rate::warm(&RateOptions { functions: 0, ..good }).unwrap_err();
    assert!(matches!(error, TraceError::Option { option: "warm-functions", .. }), "{error}");
}
