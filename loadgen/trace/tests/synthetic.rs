//! Synthetic traces: the same for the same seed, and of the shape that was published; and samples of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use trace::{
    Memory, RunTime, SampleOptions, ScheduleOptions, TraceError, Workload, sample,
    synthetic::{self, Pattern, Shape},
};

fn azure(functions: usize, minutes: u32, seed: u64) -> Workload {
    synthetic::generate(&Shape { functions, minutes, ..Shape::azure() }, seed).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_another() {
    for preset in Shape::PRESETS {
        let shape = Shape { functions: 30, minutes: 20, ..Shape::preset(preset).unwrap() };
        let trace = synthetic::generate(&shape, 7).unwrap();
        assert_eq!(trace, synthetic::generate(&shape, 7).unwrap(), "{preset}");
        assert_ne!(trace, synthetic::generate(&shape, 8).unwrap(), "{preset}");
    }
}

/// The published shares: 45 % of the functions at most hourly, 81 % at most once per minute, and the busiest fifth with
/// more than 99 % of the invocations; over a day, so that rates are visible.
#[test]
fn rates_have_the_published_shares() {
    let shape = Shape { diurnal_swing: 0.0, first_minute: 1, ..Shape::azure() };
    let trace = synthetic::generate(&Shape { functions: 600, minutes: 1440, ..shape }, 5).unwrap();
    let mut totals: Vec<u64> = trace.functions.iter().map(|function| function.total()).collect();
    totals.sort_unstable();
    let share = |most: u64| totals.iter().filter(|&&total| total <= most).count() as f64 / 600.0;
    assert!((share(24) - 0.45).abs() < 0.03, "at most hourly: expected 0.45, found {}", share(24));
    assert!((share(1440) - 0.81).abs() < 0.03, "at most once per minute: expected 0.81, found {}", share(1440));
    let busiest: u64 = totals[480..].iter().sum();
    assert!(busiest as f64 > 0.99 * trace.total() as f64, "the busiest fifth has {busiest} of {}", trace.total());
}

#[test]
fn run_times_have_the_published_log_normal_shape() {
    let trace = azure(4000, 1, 11);
    let mut averages_s: Vec<f64> =
        trace.functions.iter().map(|function| function.run_time.average_ms.unwrap() / 1000.0).collect();
    averages_s.sort_by(f64::total_cmp);
    // Quantiles of the fit: e^(-0.38 + 2.36 z) for z = -0.674, 0, 0.674.
    for (position, expected) in [(1000, 0.139), (2000, 0.684), (3000, 3.36)] {
        let found = averages_s[position];
        assert!(
            (found / expected).ln().abs() < 0.2,
            "quantile {position} of 4000: expected {expected} s, found {found} s"
        );
    }
    for function in &trace.functions {
        assert!(function.run_time.values_ms()[6] <= 600_000.0, "{} exceeds ten minutes", function.name);
        let average = function.run_time.average_ms.unwrap();
        assert!((average - function.run_time.mean_ms()).abs() < 1e-9, "the stated average is what is drawn");
    }
}

#[test]
fn timers_fire_together_on_the_clock_and_bursts_are_burstier_than_poisson() {
    let shape = Shape { functions: 200, minutes: 120, first_minute: 1, ..Shape::timers() };
    let trace = synthetic::generate(&shape, 1).unwrap();
    assert!(trace.functions.iter().all(|function| function.counts[0] == 1), "at midnight every timer fires");
    assert!(trace.functions.iter().all(|function| function.counts.iter().all(|&count| count <= 1)));

    let dispersion = |pattern| {
        let mut shape = Shape { functions: 20, minutes: 2000, ..Shape::steady() };
        shape.triggers[0].pattern = pattern;
        let trace = synthetic::generate(&shape, 1).unwrap();
        let of_one = |counts: &[u32]| {
            let mean = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / counts.len() as f64;
            counts.iter().map(|&count| (f64::from(count) - mean).powi(2)).sum::<f64>() / counts.len() as f64 / mean
        };
        trace.functions.iter().map(|function| of_one(&function.counts)).sum::<f64>() / 20.0
    };
    let (poisson, bursty) = (dispersion(Pattern::Poisson), dispersion(Pattern::Bursty));
    assert!((poisson - 1.0).abs() < 0.05, "variance over mean of Poisson counts: {poisson}");
    assert!((bursty - 8.0).abs() < 0.4, "variance over mean of bursty counts: {bursty}");
}

#[test]
fn the_day_swings_around_its_mean() {
    let shape = Shape { functions: 20, minutes: 1440, first_minute: 1, diurnal_swing: 0.5, ..Shape::steady() };
    let trace = synthetic::generate(&shape, 1).unwrap();
    let hour = |start: usize| -> f64 {
        trace
            .functions
            .iter()
            .flat_map(|function| &function.counts[start..start + 60])
            .map(|&count| f64::from(count))
            .sum()
    };
    let (afternoon, night) = (hour(870), hour(150));
    assert!((afternoon / night - 3.0).abs() < 0.1, "1.5 over 0.5, found {}", afternoon / night);
}

#[test]
fn every_function_of_the_sample_preset_is_active() {
    let trace = synthetic::generate(&Shape { minutes: 5, ..Shape::azure_sample() }, 2).unwrap();
    assert_eq!(trace.active().count(), 500);
    let names: std::collections::HashSet<&str> =
        trace.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names.len(), 500);
}

fn sample_options(functions: usize, max_cores: Option<f64>, seed: u64) -> SampleOptions {
    SampleOptions { functions, max_cores, seed, schedule: ScheduleOptions::default() }
}

#[test]
fn a_sample_has_exactly_as_many_active_functions_and_fits() {
    let trace = azure(400, 10, 3);
    let whole = trace.summary(&ScheduleOptions::default());
    for (functions, max_cores) in [(20, 1.0), (20, 0.01), (100, 2.0), (whole.active, whole.cores * 1.000_001)] {
        let (sampled, report) = sample(&trace, &sample_options(functions, Some(max_cores), 1)).unwrap();
        let found = sampled.summary(&ScheduleOptions::default());
        assert_eq!((found.functions, found.active), (functions, functions));
        assert!(found.cores <= max_cores * (1.0 + 1e-9), "at most {max_cores} cores, found {}", found.cores);
        assert!((found.cores - report.cores).abs() < 1e-9 && found.invocations == report.invocations, "{report:?}");
        assert!(
            sampled.functions.iter().all(|function| trace.functions.contains(function)),
            "functions stay as they are"
        );
    }
}

#[test]
fn a_sample_is_nearer_to_the_whole_than_a_random_one_and_follows_its_seed() {
    let trace = azure(400, 30, 3);
    let (first, report) = sample(&trace, &sample_options(40, None, 1)).unwrap();
    assert_eq!(first, sample(&trace, &sample_options(40, None, 1)).unwrap().0);
    assert_ne!(first, sample(&trace, &sample_options(40, None, 2)).unwrap().0);
    assert!(report.rate_decades < 0.1, "the rates are within a quarter of the whole's: {report:?}");
    assert!(report.resource_decades < 0.2, "{report:?}");
    let (_, tight) = sample(&trace, &sample_options(40, Some(0.02), 1)).unwrap();
    assert!(tight.resource_decades > report.resource_decades, "what the bound costs must show: {tight:?}");
}

/// Checks that one seed's samples of these sizes are each a part of the next.
fn chain(trace: &Workload, sizes: &[usize], max_cores: Option<f64>, seed: u64) {
    let mut smaller: Vec<String> = Vec::new();
    for &functions in sizes {
        let (sampled, report) = sample(trace, &sample_options(functions, max_cores, seed)).unwrap();
        let names: Vec<String> = sampled.functions.into_iter().map(|function| function.name).collect();
        let missing: Vec<&String> = smaller.iter().filter(|name| !names.contains(name)).collect();
        assert!(
            missing.is_empty(),
            "of the smaller sample, that of {functions} functions lacks {missing:?}: {report:?}"
        );
        assert!(report.nested, "{report:?}");
        smaller = names;
    }
}

#[test]
fn a_smaller_sample_is_a_part_of_a_larger_one() {
    let trace = azure(400, 10, 3);
    let whole = trace.summary(&ScheduleOptions::default());
    for seed in [1, 2] {
        chain(&trace, &[1, 5, 20, 21, 100, whole.active], None, seed);
        // With few cores too: the first do not use up what later ones need.
        chain(&trace, &[1, 5, 20, 21, 60], Some(whole.cores / 10.0), seed);
    }
}

/// Of four functions that need 4, 5, 6 and 6 cores, only the first two fit 9 together, whichever is like the whole.
#[test]
fn a_sample_says_whether_it_is_nested() {
    let shape = Shape { functions: 4, minutes: 1, ..Shape::azure_sample() };
    let mut trace = synthetic::generate(&shape, 1).unwrap();
    for (function, count) in trace.functions.iter_mut().zip([4, 5, 6, 6]) {
        (function.counts, function.run_time) = (vec![count], RunTime::constant(60_000.0));
        function.memory = Memory::constant(128.0);
    }
    let mut seen = [false; 2];
    for seed in 0..40 {
        let (one, _) = sample(&trace, &sample_options(1, Some(9.0), seed)).unwrap();
        let (two, report) = sample(&trace, &sample_options(2, Some(9.0), seed)).unwrap();
        assert_eq!(two.functions, trace.functions[..2], "the only two that fit");
        assert_eq!(report.nested, two.functions.contains(&one.functions[0]), "seed {seed}: {report:?}");
        seen[usize::from(report.nested)] = true;
    }
    assert_eq!(seen, [true, true], "both occur among the seeds");
}

/// Two functions with 1 and 3 calls in the first minute and 4 and 0 in the second, so 2 on average in each.
#[test]
fn the_distance_of_counts_is_per_minute_and_a_multiple_of_their_mean() {
    let shape = Shape { functions: 2, minutes: 2, ..Shape::azure_sample() };
    let mut trace = synthetic::generate(&shape, 1).unwrap();
    let counts = |trace: &mut Workload, counts: [[u32; 2]; 2]| {
        trace.functions.iter_mut().zip(counts).for_each(|(function, counts)| function.counts = counts.to_vec());
    };
    counts(&mut trace, [[1, 4], [3, 0]]);
    let (_, both) = sample(&trace, &sample_options(2, None, 1)).unwrap();
    assert_eq!((both.count_distance, both.resource_distance, both.rate_decades), (0.0, 0.0, 0.0));
    let (only, one) = sample(&trace, &sample_options(1, None, 1)).unwrap();
    // Either differs by 1 on average in the first minute and by 2 in the second: 1.5 of 2.
    assert!((one.count_distance - 0.75).abs() < 1e-12, "{one:?} of {:?}", only.functions[0].counts);
    // The rates over both minutes are 5/2 and 3/2: half of log10(5/3) apart.
    assert!((one.rate_decades - (5.0f64 / 3.0).log10() / 2.0).abs() < 1e-12, "{one:?}");
}

#[test]
fn what_cannot_be_sampled_is_refused_with_what_can() {
    let trace = azure(50, 5, 3);
    let active = trace.active().count();
    let refusal = |functions, max_cores| sample(&trace, &sample_options(functions, Some(max_cores), 1)).unwrap_err();
    let too_many = refusal(51, 1e9).to_string();
    let expected =
        format!("--functions: no sample of 51 functions fits: {active} functions are active in these 5 minutes");
    assert_eq!(too_many, expected);
    let too_dear = refusal(active, 0.001).to_string();
    assert!(too_dear.contains("cheapest functions need") && too_dear.contains("fit 0.001 cores"), "{too_dear}");
    // What the refusal says is possible, is.
    let words: Vec<&str> = too_dear.split(' ').collect();
    let at = words.iter().position(|&word| word == "most").unwrap();
    let possible: usize = words[at + 1].parse().unwrap();
    assert!(possible > 0 && possible < active, "{too_dear}");
    sample(&trace, &sample_options(possible, Some(0.001), 1)).unwrap();
    assert!(sample(&trace, &sample_options(possible + 1, Some(0.001), 1)).is_err());
    assert!(matches!(refusal(0, 1.0), TraceError::Option { .. }));
    assert!(matches!(refusal(1, f64::NAN), TraceError::Option { .. }));
}
