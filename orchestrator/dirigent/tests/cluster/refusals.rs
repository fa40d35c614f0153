//! Responses to a client whose invocation cannot be served: status, error word, and time.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan, number},
    daemon::dirigent,
    invocation::Invocation,
    wait::{check, wait_for},
};

/// Tolerance of a deadline on a busy machine.
const LATENESS: Duration = Duration::from_secs(3);

#[test]
fn a_full_queue_is_refused_at_once_and_says_when_to_come_back() {
    let cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "scale": { "max": 1 }, "queue": { "limit": 2 } }));
    let running = Invocation::of("f").run_ms(1500).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    let waiting = [(); 2].map(|()| Invocation::of("f").begin(cluster.invoke_address()).unwrap());
    cluster.wait_for_demand(0, "f", 2, 1);

    let refused = cluster.invoke("f");
    refused.assert_refused(503, "queue-full");
    let after = refused.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(after.is_some_and(|seconds| seconds >= 1), "expected Retry-After in seconds: {refused:?}");
    running.response().unwrap().assert_ok();
    for ongoing in waiting {
        ongoing.response().unwrap().assert_ok();
    }
}

#[test]
fn without_capacity_the_queue_deadline_ends_the_wait() {
    let cluster = Cluster::start(Plan { cpu: "1", ..Plan::HOLLOW });
    let deadline = Duration::from_secs(1);
    cluster.register("huge", json!({ "cpu": 2000, "queue": { "deadline": "1s" } }));
    let waiting = Invocation::of("huge").begin(cluster.invoke_address()).unwrap();
    wait_for("the control plane to lack room for it", || {
        let status = cluster.status();
        check(number(&status["functions_unschedulable"]) == 1, &status)
    });
    let late = waiting.response().unwrap();
    late.assert_refused(504, "queue-deadline");
    assert!(
        (deadline..deadline + LATENESS).contains(&late.took),
        "expected the refusal after {deadline:?}, found {late:?}"
    );
    wait_for("nothing to lack room, since nobody waits any more", || {
        let status = cluster.status();
        check(number(&status["functions_unschedulable"]) == 0, &status)
    });
    // What does not fit today may be made to fit.
    cluster.register("small", json!({ "cpu": 1000 }));
    cluster.invoke("small").assert_ok();
}

#[test]
fn a_function_that_times_out_can_be_invoked_again() {
    let cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "timeout": "300ms", "scale": { "max": 1 } }));
    let late = Invocation::of("f").run_ms(20_000).at(cluster.invoke_address());
    late.assert_refused(504, "timeout");
    assert!(late.took < Duration::from_millis(300) + LATENESS, "expected the time-out after 300 ms: {late:?}");
    Invocation::of("f").run_ms(10).at(cluster.invoke_address()).assert_ok();
}

#[test]
fn a_sandbox_that_cannot_be_made_is_said_long_before_the_queue_deadline() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("broken", json!({ "image": "file:/nonexistent", "queue": { "deadline": "50s" } }));
    let refused = cluster.invoke("broken");
    refused.assert_refused(503, "creation-failed");
    assert!(refused.took < Duration::from_secs(10), "expected three attempts and then the answer: {refused:?}");
    assert!(refused.header("retry-after").is_some(), "expected Retry-After: {refused:?}");

    let at = ["--control-plane", cluster.control_plane.address("http")];
    let shown = dirigent().args(["function", "show", "broken"]).args(at).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("/nonexistent"), "expected the error in `function show`: {shown}");
    assert!(number(&cluster.show("broken")["failures"]) >= 3, "{}", cluster.show("broken"));

    // An image that can be made heals it at once.
    let put = cluster.operator("PUT /v1/functions/broken", r#"{"image":"builtin:function"}"#);
    assert_eq!(put.status, 200, "{put:?}");
    cluster.invoke("broken").assert_ok();
}
