//! The driver against a real control plane: what it asks for is created, and what it may not ask for is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn driver(arguments: &[&str]) -> Output {
    let program = |name| programs::path(name).unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(program("driver"));
    command.arg("--dirigent").arg(program("dirigent")).args(arguments).output().unwrap()
}

#[test]
fn what_is_asked_for_is_created_deleted_and_created_again() {
    let small = ["--nodes", "3", "--nodes-per-worker", "2", "--data-planes", "2", "--idle-functions", "10"];
    let short = ["--rate", "20", "--warmup", "1", "--seconds", "7", "--format", "json"];
    let output = driver(&[&small[..], &short[..]].concat());
    assert!(output.status.success(), "{output:?}");
    let measured: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| measured[key].as_f64().unwrap_or_else(|| panic!("{key} in {measured}"));
    assert_eq!((number("workers"), number("functions"), number("idle_functions")), (2.0, 100.0, 10.0));
    // A function's turn comes again within the measured time: only what was deleted can be asked for again.
    assert_eq!(number("not_cold_per_s"), 0.0, "{measured}");
    assert!(number("created_per_s") > 0.0 && number("asked_per_s") > 0.0, "{measured}");
    assert!(measured["dispatch_us"]["p99"].as_u64().unwrap() > 0, "{measured}");
}

#[test]
fn numbers_out_of_bounds_are_refused() {
    let output = driver(&["--rate", "0"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--rate must be above 0"), "{output:?}");
}
