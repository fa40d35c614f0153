//! Schedules: what they keep of the trace, their independence of other functions, and their file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use proptest::prelude::*;
use trace::{
    Arrivals, Due, FunctionProfile, LoadReport, Memory, Phase, RunTime, Schedule, ScheduleOptions, TraceError, Workload,
};

fn function(name: &str, counts: Vec<u32>) -> FunctionProfile {
    FunctionProfile {
        name: name.to_owned(),
        owner: "owner".to_owned(),
        app: "app".to_owned(),
        function: name.to_owned(),
        trigger: "http".to_owned(),
        counts,
        run_time: RunTime::new([2.0, 3.0, 10.0, 20.0, 40.0, 300.0, 5000.0]).unwrap(),
        memory: Memory::new([10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.2]).unwrap(),
    }
}

fn workload(functions: Vec<FunctionProfile>) -> Workload {
    let minutes = u32::try_from(functions[0].counts.len()).unwrap();
    Workload { functions, minutes, first_minute: 1, report: LoadReport::default() }
}

/// The invocations of one function, without its index, which depends on the others.
fn of(schedule: &Schedule, name: &str) -> Vec<(u64, u64, u32, Phase)> {
    let position = schedule.functions.iter().position(|function| function.name == name).unwrap();
    let own = schedule.invocations.iter().filter(|due| due.function as usize == position);
    own.map(|due| (due.due_ns, due.run_us, due.memory_mib, due.phase)).collect()
}

fn any_workload() -> impl Strategy<Value = Workload> {
    let counts = (1_usize..6).prop_flat_map(|minutes| {
        prop::collection::vec(prop::collection::vec(prop_oneof![Just(0), 0_u32..40], minutes), 1..8)
    });
    counts.prop_map(|counts| {
        let functions = counts.into_iter().enumerate().map(|(index, counts)| function(&format!("f-{index}"), counts));
        workload(functions.collect())
    })
}

fn any_options() -> impl Strategy<Value = ScheduleOptions> {
    let minute = prop_oneof![Just(60_000_000_000_u64), 1_u64..100_000_000];
    (any::<u64>(), prop::sample::select(Arrivals::ALL.to_vec()), minute, 0_u64..120).prop_map(
        |(seed, arrivals, minute_ns, warmup_s)| ScheduleOptions {
            seed,
            arrivals,
            minute: Duration::from_nanos(minute_ns),
            warmup: Duration::from_secs(warmup_s),
            ..ScheduleOptions::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_minute_has_exactly_the_traces_counts_in_due_order(workload in any_workload(), options in any_options()) {
        let schedule = Schedule::from_workload(&workload, &options).unwrap();
        let minute_ns = u64::try_from(options.minute.as_nanos()).unwrap();
        let mut found = BTreeMap::<(&str, u64), u32>::new();
        for due in &schedule.invocations {
            *found.entry((&schedule.functions[due.function as usize].name, due.due_ns / minute_ns)).or_default() += 1;
        }
        let mut expected = BTreeMap::new();
        for function in &workload.functions {
            let minutes = (0_u64..).zip(&function.counts).filter(|(_, count)| **count > 0);
            expected.extend(minutes.map(|(minute, &count)| ((function.name.as_str(), minute), count)));
        }
        prop_assert_eq!(found, expected);
        prop_assert!(schedule.invocations.is_sorted_by_key(|due| (due.due_ns, due.function)));
        prop_assert_eq!(schedule.span_ns, minute_ns * u64::from(workload.minutes));
        prop_assert_eq!(schedule.functions.iter().map(|function| function.invocations).sum::<u64>(), workload.total());
    }

    #[test]
    fn draws_lie_within_the_published_percentiles_and_phases_follow_the_warm_up(
        workload in any_workload(), options in any_options(),
    ) {
        let schedule = Schedule::from_workload(&workload, &options).unwrap();
        for due in &schedule.invocations {
            prop_assert!((2_000..=5_000_000).contains(&due.run_us), "{:?}", due);
            prop_assert!((10..=schedule.functions[due.function as usize].memory_mib).contains(&due.memory_mib), "{:?}", due);
            let warm = u128::from(due.due_ns) < options.warmup.as_nanos();
            prop_assert_eq!(due.phase, if warm { Phase::Warmup } else { Phase::Measured });
        }
    }

    #[test]
    fn dropping_a_function_changes_no_other(workload in any_workload(), options in any_options(), drop in any::<prop::sample::Index>()) {
        let whole = Schedule::from_workload(&workload, &options).unwrap();
        let mut fewer = workload.clone();
        fewer.functions.remove(drop.index(workload.functions.len()));
        let fewer_schedule = Schedule::from_workload(&fewer, &options).unwrap();
        for function in fewer.active() {
            prop_assert_eq!(of(&fewer_schedule, &function.name), of(&whole, &function.name));
        }
    }

    #[test]
    fn the_order_of_the_traces_rows_does_not_matter_but_the_seed_does(mut workload in any_workload(), options in any_options()) {
        let schedule = Schedule::from_workload(&workload, &options).unwrap();
        workload.functions.reverse();
        let again = Schedule::from_workload(&workload, &options).unwrap();
        prop_assert_eq!(schedule.checksum(), again.checksum());
        prop_assert_eq!(&schedule, &again);
        let other = ScheduleOptions { seed: options.seed.wrapping_add(1), ..options };
        let other = Schedule::from_workload(&workload, &other).unwrap();
        prop_assert_ne!(schedule.checksum(), other.checksum());
        let run_times = |schedule: &Schedule| -> Vec<u64> { schedule.invocations.iter().map(|due| due.run_us).collect() };
        prop_assert!(workload.total() < 5 || run_times(&schedule) != run_times(&other), "another seed must draw others");
    }

    #[test]
    fn a_longer_window_begins_like_a_shorter_one(workload in any_workload(), options in any_options()) {
        let whole = Schedule::from_workload(&workload, &options).unwrap();
        let mut shorter = workload.clone();
        shorter.cut(0, 1).unwrap();
        let first = Schedule::from_workload(&shorter, &options).unwrap();
        for function in shorter.active() {
            let own = of(&first, &function.name);
            prop_assert_eq!(&own[..], &of(&whole, &function.name)[..own.len()]);
        }
    }

    #[test]
    fn a_damaged_file_never_panics(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("schedule.csv");
        let mut bytes = good_file().into_bytes();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        fs::write(&path, &bytes).unwrap();
        if let Ok(schedule) = Schedule::read(&path) {
            prop_assert_eq!((schedule.functions.len(), schedule.invocations.len()), (1, 2));
        }
    }

    #[test]
    fn the_file_reads_back_the_same(workload in any_workload(), options in any_options()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("schedule.csv");
        let mut schedule = Schedule::from_workload(&workload, &options).unwrap();
        schedule.settings.insert("trace".to_owned(), "a sample".to_owned());
        schedule.write(&path).unwrap();
        prop_assert_eq!(Schedule::read(&path).unwrap(), schedule);
    }
}

/// The bytes are the contract: a change of these means that published seeds no longer give the published schedules.
#[test]
fn the_file_is_these_bytes() {
    let options = ScheduleOptions { seed: 42, arrivals: Arrivals::Equidistant, ..ScheduleOptions::default() };
    let schedule = Schedule::from_workload(&workload(vec![function("f-a", vec![1, 2])]), &options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedule.csv");
    schedule.write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let head = "setting,value\nformat,dirigent-schedule\nversion,1\nseed,42\nspan_ns,120000000000\nfunctions,1\ninvocations,3\n\
                arrivals,equidistant\nmax_run_us,none\nmin_run_us,1000\nminute_ns,60000000000\nsource,trace\nwarmup_ns,0\n\n\
                function,memory_mib,invocations\nf-a,18,3\n\ndue_ns,function,run_us,memory_mib,phase\n";
    assert_eq!(&text[..head.len()], head);
    assert_eq!(
        &text[head.len()..],
        "59016845837,f-a,72877,13,measured\n89508422918,f-a,4549,11,measured\n119508422918,f-a,35781,14,measured\n",
        "the draws of seed 42"
    );
    assert_eq!(schedule.checksum(), "2849864f1351dd9ef00ec72461e43f33ca6a998bdfd480cc0aa6ae547a468dc8");
}

/// The share of draws below each published percentile is that percentile.
#[test]
fn run_times_follow_the_published_distribution() {
    let schedule =
        Schedule::from_workload(&workload(vec![function("f-a", vec![50_000])]), &ScheduleOptions::default()).unwrap();
    for (below_ms, expected) in [(3.0, 0.01), (10.0, 0.25), (20.0, 0.5), (40.0, 0.75), (300.0, 0.99)] {
        let below = schedule.invocations.iter().filter(|due| (due.run_us as f64) < below_ms * 1000.0).count();
        let share = below as f64 / 50_000.0;
        assert!((share - expected).abs() < 0.01, "below {below_ms} ms: expected {expected}, found {share}");
    }
}

#[test]
fn run_times_are_clamped_to_the_bounds_which_are_recorded() {
    let options = ScheduleOptions {
        min_run: Duration::from_millis(15),
        max_run: Some(Duration::from_millis(30)),
        ..ScheduleOptions::default()
    };
    let schedule = Schedule::from_workload(&workload(vec![function("f-a", vec![500])]), &options).unwrap();
    let runs: Vec<u64> = schedule.invocations.iter().map(|due| due.run_us).collect();
    assert_eq!((runs.iter().min(), runs.iter().max()), (Some(&15_000), Some(&30_000)));
    assert_eq!((&schedule.settings["min_run_us"][..], &schedule.settings["max_run_us"][..]), ("15000", "30000"));
}

#[test]
fn idle_functions_are_listed_only_when_asked() {
    let workload = workload(vec![function("f-b", vec![0, 0]), function("f-a", vec![0, 1])]);
    let names = |include_idle| -> Vec<String> {
        let options = ScheduleOptions { include_idle, ..ScheduleOptions::default() };
        let schedule = Schedule::from_workload(&workload, &options).unwrap();
        schedule.functions.into_iter().map(|function| function.name).collect()
    };
    assert_eq!(names(false), ["f-a"]);
    assert_eq!(names(true), ["f-a", "f-b"]);
}

#[test]
fn impossible_options_and_sizes_are_refused() {
    let small = workload(vec![function("f-a", vec![1, 1, 1])]);
    for options in [
        ScheduleOptions { minute: Duration::ZERO, ..ScheduleOptions::default() },
        ScheduleOptions { minute: Duration::MAX, ..ScheduleOptions::default() },
        ScheduleOptions { max_run: Some(Duration::from_micros(10)), ..ScheduleOptions::default() },
        ScheduleOptions { min_run: Duration::from_secs(31 * 86_400), ..ScheduleOptions::default() },
        ScheduleOptions { max_run: Some(Duration::from_secs(31 * 86_400)), ..ScheduleOptions::default() },
    ] {
        let error = Schedule::from_workload(&small, &options).unwrap_err();
        assert!(matches!(error, TraceError::Option { .. }), "{options:?}: {error}");
    }
    let vast = workload(vec![function("f-a", vec![u32::MAX; 4])]);
    let error = Schedule::from_workload(&vast, &ScheduleOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the schedule: 17179869180 invocations, at most 50000000 are possible");
}

fn good_file() -> String {
    "setting,value\nformat,dirigent-schedule\nversion,1\nseed,42\nspan_ns,100\nfunctions,1\ninvocations,2\nnote,x\n\n\
     function,memory_mib,invocations\nf-a,18,2\n\n\
     due_ns,function,run_us,memory_mib,phase\n10,f-a,1000,12,warmup\n20,f-a,1001,18,measured\n"
        .to_owned()
}

fn read_text(text: &str, path: &Path) -> Result<Schedule, TraceError> {
    fs::write(path, text).unwrap();
    Schedule::read(path)
}

#[test]
fn a_damaged_file_is_refused_with_row_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("schedule.csv");
    let read = read_text(&good_file(), &path).unwrap();
    assert_eq!(
        read.invocations[1],
        Due { due_ns: 20, function: 0, run_us: 1001, memory_mib: 18, phase: Phase::Measured }
    );
    for (good, bad, expected) in [
        ("version,1", "version,2", "row 3, column value: expected version,1"),
        ("setting,value", "a,b", "row 1, column setting: expected a column of this name"),
        ("seed,42", "seed,-1", "row 4, column value: expected a whole number as seed"),
        ("seed,42\n", "", "expected a setting seed"),
        ("seed,42", "seed,42\nseed,43", "row 5, column setting: expected each setting once"),
        ("invocations,2\nn", "invocations,99999999999\nn", "99999999999 invocations, at most 50000000"),
        (
            "function,memory_mib,invocations",
            "function,memory,invocations",
            "row 10, column memory_mib: expected a column of this name",
        ),
        ("f-a,18,2\n", "f-a,18\n", "row 11: expected a function"),
        ("f-a,18,2", "f-a,18,7", "expected 7 invocations of f-a, found 2"),
        ("due_ns,", "due,", "row 13, column due_ns: expected a column of this name"),
        ("10,f-a", "30,f-a", "row 15, column due_ns: expected a time from 30 to 100"),
        ("20,f-a", "101,f-a", "row 15, column due_ns: expected a time from 10 to 100"),
        ("20,f-a", "20,f-b", "row 15, column function: expected a function of the second table"),
        ("1001", "1e3", "row 15, column run_us: expected a whole number"),
        ("1001", "9223372036854775808", "row 15, column run_us: expected at most 30 days"),
        ("1001,18", "1001,0", "row 15, column memory_mib: expected a whole number from 1 to 1048576"),
        ("f-a,18,2", "f-a,1048577,2", "row 11, column memory_mib: expected a whole number from 1 to 1048576"),
        ("f-a,18,2", ",18,2", "row 11, column function: expected a name of 1 to 63 of a-z, 0-9 and -"),
        ("f-a,18,2", "f-a\rhost: x,18,2", "row 11, column function: expected a name of 1 to 63"),
        ("f-a,18,2", "F/../a,18,2", "row 11, column function: expected a name of 1 to 63"),
        ("measured", "cooldown", "row 15, column phase: expected warmup or measured"),
        ("20,f-a,1001,18,measured\n", "", "expected an invocation, found the end of the file"),
        ("20,f-a,1001,18,measured", "20,f-a,1001,18,measured\n20,f-a,1,1,measured", "row 16: expected the end"),
    ] {
        let text = good_file();
        assert!(text.contains(good), "the fixture has no {good:?}");
        let error = read_text(&text.replacen(good, bad, 1), &path).unwrap_err().to_string();
        assert!(error.contains(expected), "{bad:?}: expected {expected}, found {error}");
    }
    let breaks_of_two = read_text(&good_file().replace('\n', "\r\n"), &path).unwrap();
    assert_eq!(breaks_of_two, read, "an editor's other line breaks change nothing");
    for length in 0..good_file().len() {
        assert!(read_text(&good_file()[..length], &path).is_err(), "cut off at byte {length} it must be refused");
    }
}

#[test]
fn settings_that_would_break_the_file_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (key, value) in [("seed", "1"), ("note", "a\nb"), ("a,b", "1"), ("", "1")] {
        let workload = workload(vec![function("f-a", vec![1])]);
        let mut schedule = Schedule::from_workload(&workload, &ScheduleOptions::default()).unwrap();
        schedule.settings.insert(key.to_owned(), value.to_owned());
        assert!(schedule.write(&directory.path().join("schedule.csv")).is_err(), "{key:?} = {value:?}");
    }
}
