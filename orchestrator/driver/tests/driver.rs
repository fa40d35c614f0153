//! The driver against real daemons: every measurement runs, and options out of bounds are refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn driver(arguments: &[&str]) -> Output {
    let program = |name| programs::path(name).unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new(program("driver"));
    command.arg("--dirigent").arg(program("dirigent")).args(arguments).output().unwrap()
}

fn measured(arguments: &[&str]) -> serde_json::Value {
    let output = driver(&[arguments, &["--format", "json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn requested_sandboxes_are_created_deleted_and_created_again() {
    let small =
        ["creations", "--nodes", "3", "--nodes-per-worker", "2", "--data-planes", "2", "--idle-functions", "10"];
    let short = ["--rate", "20", "--warmup", "1", "--seconds", "7"];
    let measured = measured(&[&small[..], &short[..]].concat());
    let number = |key: &str| measured[key].as_f64().unwrap_or_else(|| panic!("{key} in {measured}"));
    assert_eq!((number("workers"), number("functions_invoked"), number("functions_idle")), (2.0, 100.0, 10.0));
    // A function is invoked again within the measured time, and is cold then only if its sandbox was deleted.
    assert_eq!(number("still_warm_per_s"), 0.0, "{measured}");
    let (requested, created) = (number("asked_for_per_s"), number("created_per_s"));
    assert!(requested > 0.0 && created > 0.8 * requested, "also functions whose sandbox was deleted: {measured}");
    assert!(number("decide_place_dispatch_p99_us") > 0.0, "{measured}");
}

#[test]
fn numbers_out_of_bounds_are_refused() {
    let output = driver(&["creations", "--rate", "0"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: --rate must be above 0"), "{output:?}");
    for (command, option) in [
        ("memory", "--functions"),
        ("registration", "--clients"),
        ("registration", "--functions"),
        ("registration", "--bulk"),
        ("burst", "--invocations"),
        ("idle", "--workers"),
        ("idle", "--seconds"),
        ("churn", "--workers"),
        ("restart", "--nodes"),
        ("restart", "--repetitions"),
    ] {
        let output = driver(&[command, option, "0"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command} {option} 0: {message}");
        assert!(
            message.contains(&format!("'{option} <")) && message.contains("0 is not in 1.."),
            "{command}: {message}"
        );
    }
}

#[test]
fn a_burst_is_served_by_as_many_sandboxes() {
    let of_many = ["burst", "--invocations", "20"];
    let of_one = ["burst", "--invocations", "20", "--one-function", "--run", "300ms"];
    for arguments in [&of_many[..], &of_one[..]] {
        let measured = measured(arguments);
        assert_eq!((&measured["answered"], &measured["sandboxes"]), (&20.0.into(), &20.0.into()), "{measured}");
    }
}

#[test]
fn after_a_restart_there_are_cold_starts_again_and_no_warm_invocation_has_failed() {
    let arguments = ["restart", "--functions", "30", "--nodes", "2", "--sandboxes", "20", "--repetitions", "1"];
    let measured = measured(&arguments);
    assert_eq!((&measured["restarts"], &measured["warm_failed"]), (&1.0.into(), &0.0.into()), "{measured}");
    assert!(measured["warm_invocations"].as_f64().unwrap() > 0.0, "{measured}");
}

#[test]
fn registration_memory_and_idle_cpu_are_measured() {
    let registered = measured(&["registration", "--clients", "2", "--functions", "5", "--bulk", "100"]);
    assert!(registered["one_by_one_per_s"].as_f64().unwrap() > 0.0, "{registered}");
    let memory = measured(&["memory", "--functions", "1000"]);
    assert!(memory["control_plane_kib_each"].as_f64().unwrap() > 0.0, "{memory}");
    let idle = measured(&["idle", "--functions", "10", "--workers", "2", "--seconds", "1"]);
    assert!(idle["control_plane_percent_of_a_core"].as_f64().is_some(), "{idle}");
}

#[test]
fn functions_that_come_and_go_leave_no_resources_behind() {
    let measured = measured(&["churn", "--seconds", "4", "--rate", "50", "--workers", "1"]);
    let number = |key: &str| measured[key].as_f64().unwrap_or_else(|| panic!("{key} in {measured}"));
    assert!(number("functions") > 0.0, "{measured}");
    for part in ["control_plane", "data_plane", "worker_0"] {
        for what in ["descriptors", "connections", "threads", "memory_kib"] {
            assert!(number(&format!("{part}_{what}_first_quarter")) > 0.0, "{measured}");
            number(&format!("{part}_{what}_growth_per_min"));
        }
    }
}
