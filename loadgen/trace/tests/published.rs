//! Directories as they are published and as libraries write them: what loads, what an option decides, what is said.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod directory;

use std::fs;

use directory::{DURATIONS, INVOCATIONS, MEMORY, Trace};
use trace::{
    TraceError, Workload,
    azure2019::{self, Duplicates, Missing, ReadOptions},
    azure2021,
};

fn read(trace: &Trace, options: ReadOptions) -> Result<Workload, TraceError> {
    azure2019::read(trace.0.path(), &options)
}

fn with_missing(missing: Missing) -> ReadOptions {
    ReadOptions { missing, ..ReadOptions::default() }
}

fn with_duplicates(duplicates: Duplicates) -> ReadOptions {
    ReadOptions { duplicates, ..ReadOptions::default() }
}

fn refusal(trace: &Trace, options: ReadOptions) -> String {
    read(trace, options).expect_err("this trace must be refused").to_string()
}

/// Gives every file the name it is downloaded under, of one day.
fn downloaded(trace: &Trace, day: &str) {
    for (from, to) in [
        ("invocations.csv", "invocations_per_function_md.anon"),
        ("durations.csv", "function_durations_percentiles.anon"),
        ("memory.csv", "app_memory_percentiles.anon"),
    ] {
        let path = trace.0.path();
        fs::copy(path.join(from), path.join(format!("{to}.d{day}.csv"))).unwrap();
    }
}

#[test]
fn what_is_there_twice_is_refused_taken_once_or_merged() {
    // Ten samples of the first row, 5 of the second, and so of each percentile two thirds and one third.
    let durations =
        DURATIONS.replace("2.5,5,1.0", "2.5,10,1.0") + "o1,a1,aaaaaaaaaaaaaaaaaaaa,8.5,5,0,90,0,4,5,5.5,6,11,90\n";
    let invocations = INVOCATIONS.to_owned() + "o1,a1,aaaaaaaaaaaaaaaaaaaa,queue,4,5,0\n";
    let memory = MEMORY.to_owned() + "aaaaaaaaaaaaaaaaaaaa,o1,a1,9,200,190,191,195,200,205,210,219,320\n";
    let trace = Trace::good().with("durations.csv", &durations);
    let text = refusal(&trace, ReadOptions::default());
    assert!(text.contains("--duplicates first") && text.contains("--duplicates merge"), "{text}");
    let trace = trace.with("invocations.csv", &invocations).with("memory.csv", &memory);
    assert!(refusal(&trace, ReadOptions::default()).contains("invocations.csv, row 4"));

    let row = "o1,a1,aaaaaaaaaaaaaaaaaaaa,queue,4,5,0\n";
    let thrice = Trace::good().with("invocations.csv", INVOCATIONS.to_owned() + row + row);
    let merged = read(&thrice, with_duplicates(Duplicates::Merge)).unwrap();
    assert_eq!(&merged.functions[0].counts[..], &[9, 10, 3]);
    assert!(merged.report.notes()[0].starts_with("2 rows of invocations.csv"), "{:?}", merged.report.notes());

    let first = read(&trace, with_duplicates(Duplicates::First)).unwrap();
    assert_eq!((first.functions.len(), &first.functions[0].counts[..]), (2, &[1, 0, 3][..]));
    assert_eq!(first.functions[0].run_time.values_ms(), &[1.0, 1.0, 2.0, 2.5, 3.0, 8.0, 9.0]);
    assert_eq!(first.functions[0].memory.values_mib()[7], 120.0);
    let notes = first.report.notes().join("\n");
    for file in ["invocations.csv", "durations.csv", "memory.csv"] {
        assert!(notes.contains(&format!("1 rows of {file}")) && notes.contains("the first was taken"), "{notes}");
    }

    let merged = read(&trace, with_duplicates(Duplicates::Merge)).unwrap();
    let function = &merged.functions[0];
    assert_eq!((function.trigger.as_str(), &function.counts[..]), ("http", &[5, 5, 3][..]));
    let expected = [0.0, 2.0, 3.0, 3.5, 4.0, 9.0, 90.0];
    for (found, expected) in function.run_time.values_ms().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{:?}, expected {expected}", function.run_time);
    }
    assert!((function.run_time.average_ms.unwrap() - 4.5).abs() < 1e-9, "{:?}", function.run_time);
    assert_eq!([function.memory.values_mib()[0], function.memory.values_mib()[7]], [140.0, 320.0]);
    assert!(merged.report.notes().join("\n").contains("merged with the first"));
}

#[test]
fn a_day_without_memory_has_it_by_default_only() {
    let trace = Trace::good();
    fs::remove_file(trace.0.path().join("memory.csv")).unwrap();
    for missing in [Missing::Refuse, Missing::Drop] {
        let text = refusal(&trace, with_missing(missing));
        assert!(text.contains("no file of memory") && text.contains("--missing default"), "{text}");
    }
    let workload = read(&trace, with_missing(Missing::Default)).unwrap();
    assert_eq!(workload.functions.iter().map(|function| function.memory.max_mib()).collect::<Vec<_>>(), [170.0; 2]);
    let expected = "2 functions without a usable row in memory.csv were given the default of 170 MiB";
    assert!(workload.report.notes()[0].contains(expected), "{:?}", workload.report.notes());
}

#[test]
fn files_are_found_by_the_names_they_are_downloaded_under() {
    let trace = Trace::good();
    downloaded(&trace, "01");
    for name in ["invocations.csv", "durations.csv", "memory.csv"] {
        fs::remove_file(trace.0.path().join(name)).unwrap();
    }
    assert_eq!(read(&trace, ReadOptions::default()).unwrap().total(), 6);
    let trace = Trace::good();
    for day in ["01", "02", "13"] {
        downloaded(&trace, day);
    }
    let more = INVOCATIONS.replace("http,1,0,3", "http,1,0,9");
    fs::write(trace.0.path().join("invocations_per_function_md.anon.d13.csv"), more).unwrap();
    let on = |day| ReadOptions { day: Some(day), ..ReadOptions::default() };
    assert_eq!([read(&trace, on(2)).unwrap().total(), read(&trace, on(13)).unwrap().total()], [6, 12]);
    assert_eq!(read(&trace, ReadOptions::default()).unwrap().total(), 6, "without a day the plain names come first");
    fs::remove_file(trace.0.path().join("invocations.csv")).unwrap();
    let text = refusal(&trace, ReadOptions::default());
    assert!(text.contains("found days 1, 2, 13: --day chooses one"), "{text}");
    assert!(refusal(&trace, on(3)).contains("found days 1, 2, 13"));
    fs::remove_file(trace.0.path().join("function_durations_percentiles.anon.d02.csv")).unwrap();
    let text = refusal(&trace, on(2));
    assert!(text.contains("expected function_durations_percentiles.anon.d02.csv"), "{text}");
}

#[test]
fn what_is_found_instead_of_a_trace_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("trace.zip"), "").unwrap();
    let text = azure2019::read(directory.path(), &ReadOptions::default()).unwrap_err().to_string();
    for part in ["invocations.csv", "invocations_per_function_md.anon.dNN.csv", "found trace.zip"] {
        assert!(text.contains(part), "expected {part} in {text}");
    }
}

#[test]
fn a_folder_instead_of_its_one_file_is_named_as_such() {
    let published = "AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt";
    for (name, header, expected) in [
        (published, "app,func,end_timestamp,duration", "has every call with its start: --trace takes the file itself"),
        ("calls.csv", "\u{feff}\"app\",\"func\",\"end_timestamp\",\"duration\"\r", "--trace takes the file itself"),
        ("schedule.csv", "setting,value", "is a schedule: --schedule takes it"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(directory.path().join("README.md"), "# A trace\n").unwrap();
        fs::write(&path, format!("{header}\nx,f,1,1\n")).unwrap();
        for day in [None, Some(1)] {
            let options = ReadOptions { day, ..ReadOptions::default() };
            let text = azure2019::read(directory.path(), &options).unwrap_err().to_string();
            assert!(text.ends_with(&format!("{expected}, {}", path.display())), "expected {expected}: {text}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("other.csv"), "a,b\n").unwrap();
    let text = azure2019::read(directory.path(), &ReadOptions::default()).unwrap_err().to_string();
    assert!(text.ends_with("found other.csv"), "{text}");
}

#[test]
fn minutes_may_be_labelled_in_words_and_rows_numbered() {
    let labelled = INVOCATIONS.replace("480,481,482", "minute_1,minute_2,minute_3");
    let workload = read(&Trace::good().with("invocations.csv", labelled), ReadOptions::default()).unwrap();
    assert_eq!((workload.first_minute, workload.total()), (1, 6));

    for index in ["", "Unnamed: 0"] {
        let numbered = |text: &str| -> String {
            text.lines()
                .enumerate()
                .map(|(row, line)| match row {
                    0 => format!("{index},{line}\n"),
                    row => format!("{},{line}\n", row - 1),
                })
                .collect()
        };
        let trace =
            Trace::good().with("invocations.csv", numbered(INVOCATIONS)).with("durations.csv", numbered(DURATIONS));
        let workload = read(&trace.with("memory.csv", numbered(MEMORY)), ReadOptions::default()).unwrap();
        assert_eq!((workload.total(), workload.report.notes()), (6, Vec::<String>::new()), "{index:?}");
    }
}

#[test]
fn a_pointer_of_git_lfs_and_a_file_instead_of_its_folder_are_named_as_such() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    let trace = Trace::good().with("durations.csv", pointer);
    let text = refusal(&trace, ReadOptions::default());
    assert!(text.contains("durations.csv") && text.contains("git lfs pull"), "{text}");
    let text = trace::Schedule::read(&trace.0.path().join("durations.csv")).unwrap_err().to_string();
    assert!(text.contains("git lfs pull"), "{text}");
    let (schedule, packed) = (trace.0.path().join("schedule.csv"), trace.0.path().join("calls.csv.gz"));
    fs::write(&schedule, "setting,value\n").unwrap();
    fs::write(&packed, b"\x1f\x8b\x08\x00\xff,\xff\n").unwrap();
    let text = azure2021::read(&schedule).unwrap_err().to_string();
    assert!(text.contains("row 1: a schedule and no trace: --schedule takes it"), "{text}");
    let text = azure2021::read(&packed).unwrap_err().to_string();
    assert!(text.contains("found a gzip file: unpack it first"), "{text}");
    let text = trace::Schedule::read(&trace.0.path().join("memory.csv")).unwrap_err().to_string();
    assert!(text.contains("row 1") && text.contains("--trace takes traces"), "{text}");
    let text = azure2021::read(&trace.0.path().join("invocations.csv")).unwrap_err().to_string();
    assert!(text.contains(&format!("--trace takes their folder, {}", trace.0.path().display())), "{text}");
}

#[test]
fn values_that_are_missing_are_refused_with_the_option_that_helps_dropped_or_defaulted_and_counted() {
    let empty = INVOCATIONS.replace("http,1,0,3", "http,1,,NaN").replace("timer,0,2,0", "timer,0.0,2.0,0.0");
    let trace = Trace::good().with("invocations.csv", empty);
    let text = refusal(&trace, ReadOptions::default());
    assert!(
        text.contains("column 481") && text.contains("--missing drop") && text.contains("--missing default"),
        "{text}"
    );
    let defaulted = read(&trace, with_missing(Missing::Default)).unwrap();
    assert_eq!([&defaulted.functions[0].counts[..], &defaulted.functions[1].counts[..]], [&[1, 0, 0], &[0, 2, 0]]);
    assert!(defaulted.report.notes().join("\n").contains("2 counts that are missing"), "{:?}", defaulted.report);
    let dropped = read(&trace, with_missing(Missing::Drop)).unwrap();
    assert_eq!((dropped.functions.len(), dropped.report.dropped), (1, 1));
    assert!(dropped.report.notes().join("\n").contains("1 functions were dropped"), "{:?}", dropped.report.notes());

    let unusable = DURATIONS.replace("2.5,5,1.0,9.0,1,1,2,2.5,3,8,9", "NaN,5,1.0,9.0,1,1,2,NaN,3,8,9");
    let trace = Trace::good().with("durations.csv", unusable);
    let text = refusal(&trace, ReadOptions::default());
    assert!(text.contains("percentile_Average_50") && text.contains("--missing drop"), "{text}");
    let defaulted = read(&trace, with_missing(Missing::Default)).unwrap();
    assert_eq!(defaulted.functions[0].run_time, trace::RunTime::constant(680.0));
    assert_eq!(read(&trace, with_missing(Missing::Drop)).unwrap().functions.len(), 1);
}
