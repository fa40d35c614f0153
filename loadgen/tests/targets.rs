//! `loadgen run --target` and `--targets`: how a table of `targets.toml` decides what a system is sent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::fs;

use mock::Mock;
use program::{Scratch, replay, run};
use record::Outcome;

/// Outcome, sandbox and error of each row.
fn ends(scratch: &Scratch) -> Vec<(Outcome, Option<String>, Option<String>)> {
    scratch.rows().into_iter().map(|row| (row.outcome, row.sandbox, row.error)).collect()
}

#[test]
fn the_published_system_is_registered_by_form_and_invoked_as_its_function_expects() {
    for protocol in ["http1", "h2c"] {
        let (mock, scratch) = (Mock::published(), Scratch::new());
        let (schedule, url) = (scratch.schedule(&[(0, "f-a"), (5, "f-b")]), format!("http://{}", mock.address));
        let more = ["--target", "dirigent-go", "--protocol", protocol, "--register", &url];
        let (code, _, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &more);
        assert!(code == 0 || code == 3, "{protocol}: {code}, {errors}");
        let expected = ["c-f-a", "c-f-b"].map(|sandbox| (Outcome::Ok, Some(sandbox.to_owned()), None));
        assert_eq!(ends(&scratch), expected, "{protocol}");
        assert_eq!((mock.count("POST registerService"), mock.total()), (2, 4), "nothing is removed by form");
    }
}

#[test]
fn rows_say_the_run_time_that_was_requested_and_not_the_one_it_was_rounded_from() {
    for (target, expected) in [("dirigent-go", [1_000, 3_000]), ("dirigent", [300, 2_600])] {
        let (mock, scratch) = (Mock::published(), Scratch::new());
        let schedule = scratch.schedule(&[(0, "f-a"), (5, "f-b")]);
        let text = fs::read_to_string(&schedule).unwrap();
        fs::write(&schedule, text.replace("f-a,1000,", "f-a,300,").replace("f-b,1000,", "f-b,2600,")).unwrap();
        let (_, _, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &["--target", target]);
        let requested: Vec<u64> = scratch.rows().iter().map(|row| row.requested_us).collect();
        assert_eq!(requested, expected, "{target}: {errors}");
    }
}

#[test]
fn any_url_can_be_invoked_with_options_alone() {
    let (mock, scratch) = (Mock::external(), Scratch::new());
    fs::write(
        scratch.path("get.toml"),
        "[get]\nabout = \"a GET\"\nmethod = \"GET\"\nhost = \"{address}\"\nresponse = \"any\"\n",
    )
    .unwrap();
    let (schedule, file) = (scratch.schedule(&[(0, "f-a"), (5, "f-b")]), scratch.path("get.toml"));
    let address = mock.address.to_string();
    let url = ["--path", "/run/{function}?at={address}", "--header", "X-Key: k", "--overwrite"];
    for protocol in ["http1", "h2c"] {
        let more = [&["--target", "get", "--targets", &file, "--protocol", protocol][..], &url].concat();
        let (code, _, errors) = replay(&scratch, &schedule, &address, &more);
        assert!(code == 0 || code == 3, "{protocol}: {code}, {errors}");
        assert_eq!(ends(&scratch), vec![(Outcome::Ok, None, None); 2], "{protocol}");
    }
    // The entry for any URL posts, which this server refuses.
    let (_, _, errors) = replay(&scratch, &schedule, &address, &[&["--target", "external"][..], &url].concat());
    assert!(ends(&scratch).iter().all(|(outcome, ..)| *outcome == Outcome::Error), "{errors}");
    assert_eq!(mock.count("POST f-a"), 1);
}

#[test]
fn an_external_system_accepts_any_body() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let schedule = scratch.schedule(&[(0, "garbage"), (5, "refused")]);
    let more = ["--target", "external", "--host", "{function}"];
    replay(&scratch, &schedule, &mock.address.to_string(), &more);
    let outcomes: Vec<_> = scratch.rows().into_iter().map(|row| (row.outcome, row.executed_us, row.cold)).collect();
    assert_eq!(outcomes, [(Outcome::Ok, None, None), (Outcome::Refused, None, None)]);
}

#[test]
fn signals_are_read_as_the_option_says() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let schedule = scratch.schedule(&[(0, "ok")]);
    replay(&scratch, &schedule, &mock.address.to_string(), &["--signals", "machine-name"]);
    let row = &scratch.rows()[0];
    assert_eq!((row.sandbox.as_deref(), row.cold, row.queue_us), (Some("m"), None, None));
}

#[test]
fn a_target_that_registers_nothing_refuses_to_and_nothing_is_sent() {
    let (mock, scratch) = (Mock::control_plane(), Scratch::new());
    let (schedule, url) = (scratch.schedule(&[(0, "ok")]), format!("http://{}", mock.address));
    for (more, expected) in [
        (
            &["--target", "external"][..],
            "--register: functions of the target \"external\" are registered by other means",
        ),
        (&["--target", "dirigent-go", "--token-file", "t"], "--token-file: the form that registers functions"),
    ] {
        let more = [more, &["--register", &url]].concat();
        let (code, _, errors) = replay(&scratch, &schedule, &mock.address.to_string(), &more);
        assert!(code == 2 && errors.contains(expected), "{code}: expected {expected:?} in {errors}");
    }
    assert_eq!(mock.total(), 0);
}

#[test]
fn a_wrong_file_of_targets_is_refused_with_line_and_column() {
    let scratch = Scratch::new();
    let (schedule, file) = (scratch.schedule(&[(0, "ok")]), scratch.path("targets.toml"));
    fs::write(&file, "[mine]\nabout = \"mine\"\npaht = \"/\"\n").unwrap();
    let expected = format!("--targets: {file}:3:1: mine.paht: unknown field `paht`");
    let (code, _, errors) = replay(&scratch, &schedule, "127.0.0.1:1", &["--targets", &file]);
    assert!(code == 2 && errors.contains(&expected), "{code}: {errors}");
    let (code, _, errors) = run(&["targets", "--targets", &file]);
    assert!(code == 2 && errors.contains(&expected), "{code}: {errors}");
    let (code, _, errors) = replay(&scratch, &schedule, "127.0.0.1:1", &["--target", "mine"]);
    assert!(code == 2 && errors.contains("there are dirigent, dirigent-go, external, knative"), "{code}: {errors}");
}

#[test]
fn targets_are_listed_and_a_file_replaces_a_built_in_one() {
    let scratch = Scratch::new();
    let file = scratch.path("targets.toml");
    fs::write(&file, "[knative]\nabout = \"behind an ingress\"\nhost = \"{function}.example\"\n").unwrap();
    let (code, printed, errors) = run(&["targets", "--targets", &file, "--format", "json"]);
    assert_eq!(code, 0, "{errors}");
    let listed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(listed["knative"]["host"], "{function}.example");
    assert_eq!(listed["knative"]["headers"], serde_json::json!({}), "a table replaces the whole of another");
    assert_eq!(listed["dirigent-go"]["register"], "form");
    let (_, printed, _) = run(&["targets"]);
    assert!(printed.contains("knative-serving-revision: {function}-00001"), "{printed}");
}
