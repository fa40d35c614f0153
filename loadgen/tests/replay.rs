//! `loadgen run` against a server: every scheduled invocation has its row, with the right outcome.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::net::TcpListener;

use mock::Mock;
use program::{Running, Scratch, loadgen, replay, run, wait_until};
use record::Outcome;

/// One invocation of each kind, 5 ms apart.
const KINDS: [(&str, Outcome, Option<u16>); 9] = [
    ("ok", Outcome::Ok, Some(200)),
    ("garbage", Outcome::Invalid, Some(200)),
    ("other", Outcome::Invalid, Some(200)),
    ("refused", Outcome::Refused, Some(503)),
    ("late", Outcome::Timeout, Some(504)),
    ("broken", Outcome::Error, Some(502)),
    ("unknown", Outcome::Error, Some(404)),
    ("reset", Outcome::Error, None),
    ("slow", Outcome::Timeout, None),
];

fn each_outcome(more: &[&str]) {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let rows: Vec<(u64, &str)> = KINDS.iter().enumerate().map(|(n, kind)| (n as u64 * 5, kind.0)).collect();
    let schedule = scratch.schedule(&rows);
    let arguments = [&["--timeout", "700ms", "--format", "json"], more].concat();
    let (code, printed, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &arguments);
    assert!(code == 0 || code == 3, "a fault in an invocation must not fail the run: {code}, {errors}");
    let found = scratch.rows();
    assert_eq!(found.len(), KINDS.len());
    for (row, (name, outcome, status)) in found.iter().zip(KINDS) {
        assert_eq!((row.function.as_str(), row.outcome, row.status), (name, outcome, status), "{row:?}");
        let (sent, done) = (row.sent_ns.unwrap(), row.done_ns.unwrap());
        assert!(sent >= row.scheduled_ns && done >= sent, "{row:?}");
        assert_eq!(row.first_byte_ns.is_some(), status.is_some(), "{row:?}");
        assert_eq!(row.error.is_some(), outcome != Outcome::Ok, "{row:?}");
    }
    let ok = &found[0];
    assert_eq!((ok.executed_us, ok.queue_us, ok.cold_us, ok.exec_us), (Some(3), Some(2), Some(4), Some(5)));
    assert_eq!((ok.cold, ok.sandbox.as_deref(), ok.attempts), (Some(1), Some("3-17"), Some(2)));
    assert_eq!((ok.requested_us, ok.memory_mib), (1000, 64));
    assert!(found[3].error.as_ref().unwrap().contains("queue-full"), "{:?}", found[3]);
    assert!(found[8].latency_ns().unwrap() >= 700_000_000, "{:?}", found[8]);
    let summary = scratch.summary();
    assert_eq!((summary.scheduled, summary.sent, summary.cold, summary.seed), (9, 9, 1, 7));
    assert_eq!(summary.outcomes[&Outcome::Timeout], 2);
    assert_eq!(serde_json::from_str::<record::LoadSummary>(&printed).unwrap(), summary);
    assert!(std::fs::read_to_string(scratch.path("out/histogram.hgrm")).unwrap().contains("Percentile"));
}

#[test]
fn a_run_with_a_row_that_cannot_be_true_or_without_any_success_is_invalid_and_says_why() {
    let impossible = "invalid: impossible rows: 1 with an execution time longer than the invocation took (the first is that of \
                      index 1)";
    let cases = [
        (&["ok", "absurd", "ok"][..], Some(impossible)),
        (&["ok", "overflow", "ok"], Some(impossible)),
        (&["refused", "broken"], Some("invalid: no measured invocation succeeded")),
        (&["refused", "ok"], None),
    ];
    for (functions, expected) in cases {
        let (mock, scratch) = (Mock::data_plane(), Scratch::new());
        let rows: Vec<(u64, &str)> = functions.iter().enumerate().map(|(n, name)| (n as u64 * 20, *name)).collect();
        let schedule = scratch.schedule(&rows);
        let (code, printed, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &[]);
        let summary = scratch.summary();
        let latency = printed.lines().find(|line| line.contains("latency p50")).unwrap_or_default();
        assert_eq!(latency.ends_with(" none"), !functions.contains(&"ok"), "{printed}");
        // A busy machine may make the run late besides.
        let kinds = ["invalid: impossible rows", "invalid: no measured invocation"];
        let errors_said = summary.notes.iter().any(|note| note.starts_with("errors: "));
        assert_eq!(errors_said, functions.contains(&"refused"), "where half of it failed: {:?}", summary.notes);
        let reason = summary.notes.iter().find(|note| kinds.iter().any(|kind| note.starts_with(kind)));
        let reason = reason.map(String::as_str);
        assert_eq!(reason, expected, "{functions:?}: {errors}");
        if expected.is_some() {
            assert_eq!((code, summary.valid), (3, false), "{functions:?}: {errors}");
        }
        let ok = functions.iter().filter(|name| **name == "ok").count();
        assert_eq!(ok > 0, summary.latency_p99_ns > 0, "the impossible row has no latency: {summary:?}");
        assert!(summary.latency_p99_ns < 60_000_000_000, "{summary:?}");
    }
}

#[test]
fn a_run_whose_functions_nobody_knows_says_so_and_what_helps() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let schedule = scratch.schedule(&[(0, "unregistered"), (20, "unregistered"), (40, "broken")]);
    let (code, printed, _) = replay(&scratch, &schedule, &mock.address.to_string(), &[]);
    assert_eq!(code, 3, "{printed}");
    for expected in ["errors: 2 × unknown-function; status 404, 1 × status 502", "`loadgen register` does that"] {
        assert!(printed.contains(expected), "expected {expected:?} in {printed}");
    }
}

#[test]
fn each_outcome_has_its_row_over_http1() {
    each_outcome(&["--protocol", "http1"]);
}

#[test]
fn each_outcome_has_its_row_over_h2c() {
    each_outcome(&["--protocol", "h2c"]);
}

#[test]
fn each_outcome_has_its_row_over_fresh_connections() {
    each_outcome(&["--connections", "fresh", "--threads", "2"]);
    each_outcome(&["--connections", "fresh", "--protocol", "h2c"]);
}

#[test]
fn knative_is_invoked_as_by_an_ingress_and_its_pods_are_named_by_their_functions() {
    for protocol in ["http1", "h2c"] {
        let (mock, scratch) = (Mock::activator(), Scratch::new());
        let schedule = scratch.schedule(&[(0, "f-a"), (5, "f-b"), (10, "broken")]);
        let more = ["--target", "knative", "--protocol", protocol];
        let (code, _, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &more);
        assert!(code == 0 || code == 3, "{protocol}: {code}, {errors}");
        let found = scratch.rows();
        let facts: Vec<_> = found.iter().map(|row| (row.status, row.sandbox.as_deref(), row.cold)).collect();
        let expected =
            [(Some(200), Some("pod-f-a"), None), (Some(200), Some("pod-f-b"), None), (Some(502), None, None)];
        assert_eq!(facts, expected, "{protocol}: {found:?}");
        assert_eq!((found[0].outcome, found[0].executed_us), (Outcome::Ok, Some(1)), "{protocol}");
    }
}

#[test]
fn headers_of_a_function_behind_knative_are_no_signals() {
    for protocol in ["http1", "h2c"] {
        let (mock, scratch) = (Mock::activator(), Scratch::new());
        let schedule = scratch.schedule(&[(0, "claims-all")]);
        let more = ["--target", "knative", "--protocol", protocol];
        let (code, _, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &more);
        assert!(code == 0 || code == 3, "{protocol}: {code}, {errors}");
        let row = &scratch.rows()[0];
        assert_eq!((row.outcome, row.sandbox.as_deref()), (Outcome::Ok, Some("pod-claims-all")), "{protocol}");
        assert_eq!((row.queue_us, row.cold_us, row.exec_us), (None, None, None), "{protocol}");
        assert_eq!((row.cold, row.attempts), (None, None), "{protocol}");
    }
}

#[test]
fn heads_as_large_as_a_data_plane_passes_on_are_read() {
    for protocol in ["http1", "h2c"] {
        let (mock, scratch) = (Mock::data_plane(), Scratch::new());
        let schedule = scratch.schedule(&[(0, "wordy"), (5, "ok")]);
        let (code, _, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &["--protocol", protocol]);
        let facts: Vec<_> = scratch.rows().into_iter().map(|row| (row.outcome, row.cold, row.error)).collect();
        assert_eq!(facts, [(Outcome::Ok, Some(1), None), (Outcome::Ok, Some(1), None)], "{protocol}: {code}, {errors}");
    }
}

#[test]
fn connections_are_kept_or_not_as_configured() {
    let rows: Vec<(u64, &str)> = (0..20).map(|n| (n * 20, "ok")).collect();
    let accepted = |more: &[&str]| {
        let (mock, scratch) = (Mock::data_plane(), Scratch::new());
        let schedule = scratch.schedule(&rows);
        replay(&scratch, &schedule, &mock.address.to_string(), more);
        assert_eq!(scratch.summary().outcomes[&Outcome::Ok], 20);
        *mock.accepted.lock().unwrap()
    };
    assert_eq!(accepted(&["--connections", "fresh"]), 20);
    // One, unless this machine was so slow that two invocations overlapped.
    assert!(accepted(&["--connections", "pooled"]) < 10);
    assert!(accepted(&["--protocol", "h2c"]) == 1);
}

#[test]
fn several_addresses_alternate_or_keep_a_function() {
    let rows: Vec<(u64, &str)> = (0..12).map(|n| (n * 5, "ok")).collect();
    let counts = |spread: &str| {
        let (left, right, scratch) = (Mock::data_plane(), Mock::data_plane(), Scratch::new());
        let schedule = scratch.schedule(&rows);
        replay(&scratch, &schedule, &format!("{},{}", left.address, right.address), &["--spread", spread]);
        assert_eq!(scratch.summary().outcomes[&Outcome::Ok], 12);
        [left.total(), right.total()]
    };
    assert_eq!(counts("round-robin"), [6, 6]);
    assert!(counts("function").contains(&12));
}

#[test]
fn a_system_that_is_not_there_gives_errors_and_no_failure() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for protocol in ["http1", "h2c"] {
        let scratch = Scratch::new();
        let schedule = scratch.schedule(&[(0, "ok"), (5, "ok"), (10, "ok")]);
        let (code, _, errors) = replay(&scratch, &schedule, &port.to_string(), &["--protocol", protocol]);
        assert!(code == 0 || code == 3, "{code}: {errors}");
        for row in scratch.rows() {
            assert_eq!(row.outcome, Outcome::Error);
            assert!(row.sent_ns.is_some() && row.error.as_ref().unwrap().contains("cannot connect"), "{row:?}");
        }
    }
}

/// Starts a subcommand that serves; the program and where it listens.
fn serving(scratch: &Scratch, arguments: &[&str]) -> (Running, String) {
    let ports = scratch.path(arguments[0]);
    let child = loadgen(&[arguments, &["--ports", &ports]].concat()).spawn().unwrap();
    let running = Running(child);
    wait_until("its ports file is there", || std::path::Path::new(&ports).exists());
    let reported: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&ports).unwrap()).unwrap();
    (running, reported["http"].as_str().unwrap().to_owned())
}

#[test]
fn a_replay_through_the_copying_proxy_reaches_the_server_behind_it() {
    let scratch = Scratch::new();
    let (_mock, server) = serving(&scratch, &["mock"]);
    let (proxy, address) = serving(&scratch, &["proxy", "--to", &server]);
    let rows: Vec<(u64, &str)> = (0..20).map(|n| (n * 5, "any-name")).collect();
    let schedule = scratch.schedule(&rows);
    let (code, _, errors) = replay(&scratch, &schedule, &address, &["--open-connections", "4"]);
    assert!(code == 0 || code == 3, "{code}: {errors}");
    for row in scratch.rows() {
        assert_eq!((row.outcome, row.executed_us, row.cold), (Outcome::Ok, Some(0), None), "{row:?}");
    }
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(proxy.end().0, -1, "it ends when it is told to, by the signal itself");
    let (code, _, errors) = run(&["proxy", "--to", "nowhere"]);
    assert!(code == 2 && errors.contains("nowhere"), "{code}: {errors}");
}

#[test]
fn a_schedule_that_cannot_be_kept_makes_the_run_invalid() {
    // All due at once: the last is sent only after all others, far later than 1 ms and 2 % of the median latency.
    let rows: Vec<(u64, &str)> = (0..4000).map(|_| (0, "ok")).collect();
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let schedule = scratch.schedule(&rows);
    let (code, printed, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &["--protocol", "h2c"]);
    assert_eq!(code, 3, "{printed}{errors}");
    let summary = scratch.summary();
    assert!(!summary.valid && summary.lag.p99_ns > summary.lag_bound_ns, "{summary:?}");
    assert!(printed.contains("invalid: lag p99"), "{printed}");
    assert_eq!(scratch.rows().len(), 4000);
}

#[test]
fn only_functions_that_were_created_are_removed() {
    let (data_plane, control_plane, scratch) = (Mock::data_plane(), Mock::control_plane(), Scratch::new());
    let schedule = scratch.schedule(&[(0, "new-1"), (5, "new-2"), (10, "old-1")]);
    let url = format!("http://{}/", control_plane.address);
    let (code, _, errors) = replay(&scratch, &schedule, &data_plane.address.to_string(), &["--register", &url]);
    assert!(code == 0 || code == 3, "{code}: {errors}");
    for (what, times) in [
        ("PUT new-1", 1),
        ("PUT new-2", 1),
        ("PUT old-1", 1),
        ("DELETE new-1", 1),
        ("DELETE new-2", 1),
        ("DELETE old-1", 0),
    ] {
        assert_eq!(control_plane.count(what), times, "{what}");
    }
}

#[test]
fn a_failed_registration_is_undone_and_nothing_is_sent() {
    let (data_plane, control_plane, scratch) = (Mock::data_plane(), Mock::control_plane(), Scratch::new());
    let schedule = scratch.schedule(&[(0, "bad-1"), (5, "new-1")]);
    let url = format!("http://{}", control_plane.address);
    let (code, _, errors) = replay(&scratch, &schedule, &data_plane.address.to_string(), &["--register", &url]);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("1 of 2 functions could not be registered") && errors.contains("400"), "{errors}");
    assert_eq!((control_plane.count("DELETE new-1"), data_plane.total()), (1, 0));
}

#[test]
fn running_out_of_descriptors_is_unsent_and_loses_no_result() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let rows: Vec<(u64, &str)> = (0..80).map(|n| (n * 5, "slow")).collect();
    let (schedule, address, out) = (scratch.schedule(&rows), mock.address.to_string(), scratch.path("out"));
    let limited = format!(
        "ulimit -n 64; exec {} run --schedule {schedule} --address {address} --timeout 1s --out {out}",
        env!("CARGO_BIN_EXE_loadgen")
    );
    let output = std::process::Command::new("sh").args(["-c", &limited]).output().unwrap();
    let (code, _, errors) = program::ended(output);
    assert_eq!(code, 3, "{errors}");
    let rows = scratch.rows();
    let unsent: Vec<_> = rows.iter().filter(|row| row.outcome == Outcome::Unsent).collect();
    assert!(rows.len() == 80 && unsent.len() > 10, "{} of {} unsent", unsent.len(), rows.len());
    assert!(unsent.iter().all(|row| row.sent_ns.is_none() && row.error.as_ref().unwrap().contains("descriptors")));
    assert_eq!(scratch.summary().outcomes[&Outcome::Unsent], unsent.len() as u64);
}
