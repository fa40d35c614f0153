//! Azure 2019 directories through their door: what is read, what is refused and how the refusal reads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod directory;

use std::path::Path;

use directory::{DURATIONS, INVOCATIONS, MEMORY, Trace};
use proptest::prelude::*;
use trace::{
    Memory, RunTime, TraceError,
    azure2019::{self, Missing, ReadOptions},
    synthetic::{self, Shape},
};

#[test]
fn files_are_joined_by_name_whatever_the_order_of_rows_and_columns() {
    let workload = Trace::good().read(Missing::Refuse).unwrap();
    assert_eq!((workload.minutes, workload.first_minute, workload.total()), (3, 480, 6));
    let [first, second] = &workload.functions[..] else { panic!("expected two functions") };
    assert_eq!((first.name.as_str(), first.trigger.as_str()), ("f-aaaaaaaaaaaaaaaa", "http"));
    assert_eq!(first.counts, [1, 0, 3]);
    assert_eq!(first.run_time.values_ms(), &[1.0, 1.0, 2.0, 2.5, 3.0, 8.0, 9.0]);
    assert_eq!(first.run_time.average_ms, Some(2.5));
    assert_eq!(first.memory.values_mib()[7], 120.0);
    assert_eq!(second.counts, [0, 2, 0]);
    assert_eq!(second.memory.values_mib()[0], 40.0);
    assert!(workload.report.notes().is_empty(), "{:?}", workload.report.notes());
}

#[test]
fn count_columns_may_stand_anywhere_and_a_byte_order_mark_and_crlf_are_no_obstacle() {
    let text = "\u{feff}482,HashFunction,480,HashApp,481,HashOwner\r\n3,aaaaaaaaaaaaaaaaaaaa,1,a1,0,o1\r\n";
    let workload = Trace::good().with("invocations.csv", text).read(Missing::Refuse).unwrap();
    assert_eq!(workload.functions[0].counts, [1, 0, 3]);
    assert_eq!(workload.functions[0].trigger, "");
    assert_eq!((workload.report.unused_run_times, workload.report.unused_memory), (1, 1));
}

#[test]
fn memory_per_application_is_shared_evenly_among_its_functions() {
    let memory = MEMORY.replace("HashFunction,", "").replace("aaaaaaaaaaaaaaaaaaaa,", "");
    let memory = memory.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    let workload = Trace::good().with("memory.csv", memory).read(Missing::Refuse).unwrap();
    let expected = Memory::new([45.0, 45.5, 47.5, 50.0, 52.5, 55.0, 59.5, 60.0]).unwrap();
    assert_eq!([&workload.functions[0].memory, &workload.functions[1].memory], [&expected, &expected]);
    assert!(workload.report.memory_per_app && workload.report.notes().len() == 1);
}

#[test]
fn a_function_missing_from_a_file_is_refused_dropped_or_given_defaults_as_asked() {
    let one_run_time: String = DURATIONS.lines().take(2).map(|line| format!("{line}\n")).collect();
    let trace = Trace::good().with("durations.csv", one_run_time);
    let refusal = trace.refusal();
    assert!(
        refusal
            .starts_with("invocations.csv, row 2, column HashFunction: expected a function that durations.csv has too"),
        "{refusal}"
    );

    let dropped = trace.read(Missing::Drop).unwrap();
    assert_eq!(dropped.functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["f-bbbbbbbbbbbbbbbb"]);
    assert_eq!(dropped.report.dropped, 1);
    assert_eq!(dropped.report.without_run_time, ["o1/a1/aaaaaaaaaaaaaaaaaaaa"]);

    let defaulted = trace.read(Missing::Default).unwrap();
    assert_eq!(defaulted.functions[0].run_time, RunTime::constant(680.0));
    assert_eq!(defaulted.functions[0].memory.values_mib()[7], 120.0, "what is there is kept");
    assert_eq!(defaulted.report.defaulted, 1);
    assert!(defaulted.report.notes()[0].contains("were given the default of 680 ms"), "{:?}", defaulted.report.notes());
}

#[test]
fn columns_no_one_reads_are_reported() {
    let extra =
        INVOCATIONS.replace("Trigger", "Trigger,Regoin").replace("http", "http,eu").replace("timer", "timer,us");
    let workload = Trace::good().with("invocations.csv", extra).read(Missing::Refuse).unwrap();
    assert_eq!(workload.report.ignored_columns, ["invocations.csv: Regoin"]);
}

/// (file, what is replaced, by what, how the refusal begins)
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("invocations.csv", "HashApp", "App", "invocations.csv, row 1, column HashApp: expected a column of this name"),
    ("invocations.csv", "HashApp", "HashOwner", "invocations.csv, row 1, column number 2: expected a name, different"),
    ("invocations.csv", "481", "490", "invocations.csv, row 1, column 481: expected minutes without gaps"),
    ("invocations.csv", "480,481,482", "x,y,z", "invocations.csv, row 1, column 1: expected columns named by minute"),
    ("invocations.csv", "timer,0", "timer,-1", "invocations.csv, row 3, column 480: expected a whole number from 0 to"),
    (
        "invocations.csv",
        "timer,0",
        "timer,ten",
        "invocations.csv, row 3, column 480: expected a whole number from 0 to",
    ),
    (
        "invocations.csv",
        "timer,0",
        "timer,1.5",
        "invocations.csv, row 3, column 480: expected a whole number from 0 to",
    ),
    (
        "invocations.csv",
        "timer,0",
        "timer,",
        "invocations.csv, row 3, column 480: expected a count, found none: --missing",
    ),
    ("invocations.csv", "timer,0", "timer,99999999999", "invocations.csv, row 3, column 480: expected a whole number"),
    ("invocations.csv", "timer,0", "timer", "invocations.csv, row 3: expected 7 columns as in the header, found 6"),
    ("invocations.csv", "timer,0", "timer,0,0", "invocations.csv, row 3: expected 7 columns as in the header, found 8"),
    ("invocations.csv", "bbbbbbbbbbbbbbbbbbbb", "", "invocations.csv, row 3, column HashFunction: expected a name"),
    (
        "invocations.csv",
        "bbbbbbbbbbbbbbbbbbbb",
        "aaaaaaaaaaaaaaaaaaaa",
        "invocations.csv, row 3, column HashFunction: expected each function once, found o1/a1/aaaaaaaaaaaaaaaaaaaa again",
    ),
    ("durations.csv", "percentile_Average_25", "p25", "durations.csv, row 1, column percentile_Average_25: expected a"),
    ("durations.csv", "2,2.5,3", "2,1.5,3", "durations.csv, row 3, column percentile_Average_50: expected at least 2"),
    (
        "durations.csv",
        "0,1,10",
        "-4,1,10",
        "durations.csv, row 2, column percentile_Average_0: expected a number of at",
    ),
    ("durations.csv", "0,1,10", "0,NaN,10", "durations.csv, row 2, column percentile_Average_1: expected a finite"),
    ("durations.csv", "80,90", "80,inf", "durations.csv, row 2, column percentile_Average_100: expected a finite"),
    ("durations.csv", "80,90", "80,1e99", "durations.csv, row 2, column percentile_Average_100: expected at most"),
    ("durations.csv", ",20,5", ",-20,5", "durations.csv, row 2, column Average: expected a number from 0"),
    (
        "durations.csv",
        "bbbbbbbbbbbbbbbbbbbb",
        "aaaaaaaaaaaaaaaaaaaa",
        "durations.csv, row 3, column HashFunction: expected",
    ),
    ("memory.csv", "119,120", "121,120", "memory.csv, row 2, column AverageAllocatedMb_pct100: expected at least 121"),
    ("memory.csv", "119,120", "119,", "memory.csv, row 2, column AverageAllocatedMb_pct100: expected a finite number"),
    ("memory.csv", "_pct99", "_p99", "memory.csv, row 1, column AverageAllocatedMb_pct99: expected a column"),
];

#[test]
fn bad_input_is_refused_with_file_row_column_and_what_was_expected() {
    for (file, good, bad, expected) in REFUSED {
        let text = [("invocations.csv", INVOCATIONS), ("durations.csv", DURATIONS), ("memory.csv", MEMORY)];
        let (_, text) = text.into_iter().find(|(name, _)| name == file).unwrap();
        assert!(text.contains(good), "the fixture has no {good:?}");
        let refusal = Trace::good().with(file, text.replacen(good, bad, 1)).refusal();
        assert!(
            refusal.starts_with(expected),
            "{good:?} replaced by {bad:?}\n expected {expected}\n found    {refusal}"
        );
    }
}

#[test]
fn empty_files_and_foreign_bytes_are_refused() {
    for file in ["invocations.csv", "durations.csv", "memory.csv"] {
        let refusal = Trace::good().with(file, "").refusal();
        assert_eq!(refusal, format!("{file}, row 1: expected a header, found an empty file"));
    }
    let header = INVOCATIONS.lines().next().unwrap();
    assert!(Trace::good().with("invocations.csv", header).refusal().contains("row 2: expected at least one function"));

    let mut bytes = INVOCATIONS.replace("http", "h?tp").into_bytes();
    let position = bytes.iter().position(|&byte| byte == b'?').unwrap();
    bytes[position] = 0xff;
    let refusal = Trace::good().with("invocations.csv", &bytes).refusal();
    assert!(refusal.starts_with("invocations.csv, row 2, column Trigger: expected UTF-8 text"), "{refusal}");
    assert!(
        Trace::good().with("durations.csv", [0_u8, 255, 254, 10, 13]).refusal().starts_with("durations.csv, row 1")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any damage is either harmless or refused in words; nothing panics, and counts stay in their minutes.
    #[test]
    fn damaged_files_never_panic(file in 0_usize..3, position in any::<prop::sample::Index>(), byte in any::<u8>(), insert in any::<bool>()) {
        let (name, text) = [("invocations.csv", INVOCATIONS), ("durations.csv", DURATIONS), ("memory.csv", MEMORY)][file];
        let mut bytes = text.as_bytes().to_vec();
        let position = position.index(bytes.len());
        if insert { bytes.insert(position, byte) } else { bytes[position] = byte }
        match Trace::good().with(name, &bytes).read(Missing::Drop) {
            Ok(workload) => {
                let minutes = workload.minutes as usize;
                prop_assert!(workload.functions.iter().all(|function| function.counts.len() == minutes));
            }
            Err(error) => prop_assert!(error.to_string().contains(name), "the file is not named: {}", error),
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let error = azure2019::read(Path::new("no-such-directory"), &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-directory"), "{error}");
    assert!(matches!(error, TraceError::File { .. }));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for preset in Shape::PRESETS {
        let shape = Shape { functions: 40, minutes: 7, ..Shape::preset(preset).unwrap() };
        let mut workload = synthetic::generate(&shape, 3).unwrap();
        workload.cut(2, 4).unwrap();
        azure2019::write(&directory.path().join(preset), &workload).unwrap();
        let again = azure2019::read(&directory.path().join(preset), &ReadOptions::default()).unwrap();
        assert_eq!(again, workload, "{preset}");
    }
}

#[test]
fn a_cut_keeps_the_window_and_refuses_one_outside_the_trace() {
    let mut workload = Trace::good().read(Missing::Refuse).unwrap();
    for (start, minutes) in [(0, 4), (3, 1), (0, 0), (u32::MAX, 2)] {
        let error = workload.clone().cut(start, minutes).unwrap_err();
        assert!(matches!(error, TraceError::Option { .. }), "{start} {minutes}: {error}");
    }
    workload.cut(1, 2).unwrap();
    assert_eq!((workload.minutes, workload.first_minute), (2, 481));
    assert_eq!([&workload.functions[0].counts[..], &workload.functions[1].counts], [[0, 3], [2, 0]]);
}
