//! A reader of a program's output may close the pipe early: the program then ends with its usual exit code and no message.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io,
    process::{Command, Output, Stdio},
};

use tidy::{Workspace, expect_none};

/// Commands that print a result, one for each way to do so.
const RESULTS: [(&str, &[&str]); 14] = [
    ("repro", &["list"]),
    ("repro", &["plan"]),
    ("repro", &["plan", "--format", "json"]),
    ("repro", &["run", "--print-config"]),
    ("repro", &["completions", "bash"]),
    ("analysis", &["completions", "bash"]),
    ("knative", &["version"]),
    ("loadgen", &["completions", "bash"]),
    ("dirigent", &["completions", "bash"]),
    ("dirigent", &["control-plane", "--print-config"]),
    ("dirigent", &["data-plane", "--print-config"]),
    ("dirigent", &["worker", "--print-config"]),
    ("dirigent", &["--help"]),
    ("driver", &["--version"]),
];

/// Commands with a usage error, one for each program.
const COMPLAINTS: [(&str, &[&str]); 7] = [
    ("repro", &["plan", "moon"]),
    ("analysis", &["report", "no-such-run"]),
    ("knative", &["prepare", "--no-such-option"]),
    ("loadgen", &["run", "--target", "127.0.0.1:1", "--rate", "0"]),
    ("dirigent", &["status", "--control-plane", "http://127.0.0.1:1"]),
    ("driver", &["churn", "--seconds", "0"]),
    ("trace-function", &["--port", "none"]),
];

/// Commands with an option that takes a number, one for each program that has such options.
const NUMBERS: [(&str, &[&str], &str); 5] = [
    ("repro", &["plan", "--repetitions"], "--repetitions <"),
    ("loadgen", &["run", "--address", "127.0.0.1:1", "--out", "x", "--threads"], "--threads <N>"),
    ("dirigent", &["up", "--http-port"], "--http-port <PORT>"),
    ("driver", &["creations", "--nodes"], "--nodes <"),
    ("trace-function", &["--port"], "--port <PORT>"),
];

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::path(program).unwrap_or_else(|error| panic!("{error}")));
    command.args(arguments).current_dir(Workspace::read().root);
    command
}

fn seen(output: &Output) -> String {
    format!("{}, saying {:?}", output.status, String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_result_that_nobody_reads_to_its_end_is_no_failure() {
    let mut findings = Vec::new();
    for (program, arguments) in RESULTS {
        let read = command(program, arguments).output().unwrap();
        let not_read = command(program, arguments).stdout(unread()).stderr(Stdio::piped()).output().unwrap();
        let (expected, found) = (seen(&read), seen(&not_read));
        assert!(read.status.success() && !read.stdout.is_empty(), "{program} {arguments:?}: {expected}");
        if found != expected {
            findings.push(format!("{program} {}: expected {expected}, found {found}", arguments.join(" ")));
        }
    }
    expect_none("results without a reader", &findings);
}

#[test]
fn a_complaint_that_nobody_reads_changes_no_exit_code() {
    let mut findings = Vec::new();
    for (program, arguments) in COMPLAINTS {
        let read = command(program, arguments).output().unwrap();
        assert!(!read.status.success() && !read.stderr.is_empty(), "{program} {arguments:?}: {}", seen(&read));
        let not_read = command(program, arguments).stderr(unread()).stdout(Stdio::null()).status().unwrap();
        if not_read != read.status {
            findings.push(format!("{program} {}: expected {}, found {not_read}", arguments.join(" "), read.status));
        }
    }
    expect_none("complaints without a reader", &findings);
}

#[test]
fn what_is_no_number_is_refused_with_what_is_expected() {
    let mut findings = Vec::new();
    for (program, arguments, option) in NUMBERS {
        let output = command(program, &[arguments, &["many"]].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().next().unwrap_or_default();
        let is_right = line.contains(&format!("'{option}")) && line.contains("expected a whole number");
        if output.status.code() != Some(2) || !is_right {
            findings.push(format!("{program} {} many: {}, saying {said:?}", arguments.join(" "), output.status));
        }
    }
    expect_none("numbers that are none", &findings);
}
