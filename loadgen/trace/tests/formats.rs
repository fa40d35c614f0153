//! Detection of the format of a trace: each is detected, and a wrong name or an unknown format is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod directory;

use std::{fs, path::Path};

use directory::{DURATIONS, INVOCATIONS, MEMORY, Trace as Directory};
use trace::formats::{self, AUTO, ReadOptions, Trace, TraceFormat, TraceKind};

const CALLS: &str = "app,func,end_timestamp,duration\nx,aaaaaaaaaaaaaaaaaaaa,2,1.5\n";

/// The name of the format of `path`, or the refusal without the path.
fn resolved(name: &str, path: &Path) -> Result<&'static str, String> {
    let refusal = |error: trace::TraceError| error.to_string().replace(&path.display().to_string(), "PATH");
    formats::resolve(name, path).map(TraceFormat::name).map_err(refusal)
}

#[test]
fn a_directory_of_azure_2019_is_detected_by_the_names_of_its_files_and_read() {
    let sampled = Directory::good();
    let published = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("invocations_per_function_md.anon.d01.csv", INVOCATIONS),
        ("function_durations_percentiles.anon.d01.csv", DURATIONS),
        ("app_memory_percentiles.anon.d01.csv", MEMORY),
    ] {
        fs::write(published.path().join(name), text).unwrap();
    }
    for path in [sampled.0.path(), published.path()] {
        for name in [AUTO, "azure-2019"] {
            let format = formats::resolve(name, path).unwrap();
            assert_eq!((format.name(), format.kind()), ("azure-2019", TraceKind::Counts));
            let trace = format.read(path, &ReadOptions::default()).unwrap();
            assert!(matches!(trace, Trace::Counts(workload) if workload.functions.len() == 2));
        }
    }
}

/// Reading says what is wrong with a trace that is of the format and incomplete, so detecting it must not.
#[test]
fn an_incomplete_directory_of_azure_2019_is_detected_all_the_same() {
    let trace = Directory::good();
    fs::remove_file(trace.0.path().join("durations.csv")).unwrap();
    assert_eq!(resolved(AUTO, trace.0.path()), Ok("azure-2019"));
    let days = tempfile::tempdir().unwrap();
    for day in ["01", "02"] {
        fs::write(days.path().join(format!("invocations_per_function_md.anon.d{day}.csv")), INVOCATIONS).unwrap();
    }
    assert_eq!(resolved(AUTO, days.path()), Ok("azure-2019"));
}

#[test]
fn a_file_of_azure_2021_is_detected_by_its_header_and_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.txt");
    fs::write(&path, CALLS).unwrap();
    for name in [AUTO, "azure-2021"] {
        let format = formats::resolve(name, &path).unwrap();
        assert_eq!((format.name(), format.kind()), ("azure-2021", TraceKind::Calls));
        let trace = format.read(&path, &ReadOptions::default()).unwrap();
        assert!(matches!(trace, Trace::Calls(exact) if exact.calls.len() == 1));
    }
}

#[test]
fn a_trace_of_no_format_is_refused_with_what_was_found_the_formats_and_the_option() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.csv");
    let option = "; --trace-format names the one to read";
    for (text, found) in [
        ("a,b\n1,2\n", "PATH, row 1, column app: expected a column of this name, found a, b"),
        ("", "PATH, row 1: expected a header, found an empty file"),
        (INVOCATIONS, "PATH, row 1: one file of a trace of several: --trace takes their folder, "),
        ("setting,value\n", "PATH, row 1: a schedule and no trace: --schedule takes it"),
        ("\u{1f}packed", "PATH, row 1, column app: expected a column of this name, found "),
    ] {
        fs::write(&file, text).unwrap();
        let refusal = resolved(AUTO, &file).unwrap_err();
        let expected = "PATH: not of a known format (azure-2019: expected a directory, found a file; azure-2021: ";
        assert!(refusal.starts_with(&format!("{expected}{found}")), "{text:?}: {refusal}");
        assert!(refusal.ends_with(option), "{text:?}: {refusal}");
    }
    fs::write(&file, CALLS).unwrap();
    let refusal = resolved(AUTO, directory.path()).unwrap_err();
    let expected = "PATH: not of a known format (azure-2019: expected invocations.csv, durations.csv, memory.csv, or ";
    assert!(refusal.starts_with(expected) && refusal.ends_with(option), "{refusal}");
    let found = "found x.csv; x.csv has every call with its start: --trace takes the file itself, PATH/x.csv; azure-2021: \
                 expected a file, found a directory or device)";
    assert!(refusal.contains(found), "{refusal}");
}

#[test]
fn a_format_that_is_named_must_be_that_of_the_trace() {
    let trace = Directory::good();
    let refusal = resolved("azure-2021", trace.0.path()).unwrap_err();
    let expected = "PATH: not of the format azure-2021, which --trace-format says: expected a file, found a directory or \
                    device; known formats are azure-2019, azure-2021";
    assert_eq!(refusal, expected);
    let refusal = resolved("huawei-2023", trace.0.path()).unwrap_err();
    assert_eq!(refusal, "--trace-format: expected auto or one of azure-2019, azure-2021, found \"huawei-2023\"");
}
