//! Deregistration: drained before deleted, and nothing left behind.

use serde_json::json;
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, Plan},
    invocation::Invocation,
    traffic::{Traffic, assert_no_failure, failures},
    wait::{check, wait_for},
};

#[test]
fn what_runs_finishes_what_comes_later_is_unknown_and_no_sandbox_stays() {
    let cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "scale": { "min": 3 } }));
    wait_for("three sandboxes", || check(cluster.ready_sandboxes("f").len() == 3, cluster.show("f")));
    let running = Invocation::of("f").post().run_ms(1500).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);

    let deleted = cluster.operator("DELETE /v1/functions/f", "");
    assert_eq!(deleted.status, 202, "{deleted:?}");
    cluster.invoke("f").assert_refused(404, "unknown-function");
    assert_eq!(cluster.operator("GET /v1/functions/f", "").status, 404, "expected no trace of it");
    assert_eq!(cluster.operator("DELETE /v1/functions/f", "").status, 404, "it is gone already");
    let held = cluster.held();
    assert!(!held.is_empty(), "expected the sandbox that still runs an invocation to be there");

    let finished = running.response().unwrap();
    finished.assert_ok();
    wait_for("no sandbox on any worker", || {
        let held = cluster.held();
        check(held.is_empty(), format!("{held:?}"))
    });
    cluster.wait_for_rest();

    cluster.register("f", json!({}));
    let recreated = cluster.invoke("f");
    assert_ne!(recreated.assert_ok().sandbox(), finished.sandbox(), "a new registration has sandboxes of its own");
}

#[test]
fn waiters_of_a_deleted_function_get_a_response_at_once() {
    let cluster = Cluster::start(Plan { cpu: "1", ..Plan::HOLLOW });
    cluster.register("huge", json!({ "cpu": 2000 }));
    let waiting = Invocation::of("huge").begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "huge", 1, 0);
    assert_eq!(cluster.operator("DELETE /v1/functions/huge", "").status, 202);
    waiting.response().unwrap().assert_refused(404, "unknown-function");
}

#[test]
fn under_steady_traffic_all_get_responses_and_every_sandbox_ends() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({}));
    cluster.register("g", json!({}));
    let traffic = Traffic::start(cluster.invoke_address(), &["f", "f", "f", "f", "g", "g"], 10);
    traffic.wait_for_more(100);
    cluster.delete("f");
    let deleted = Instant::now();
    traffic.wait_for_more(200);
    let (f, g): (Vec<_>, Vec<_>) = traffic.stop().into_iter().partition(|note| note.function == "f");
    assert_no_failure("beside a deletion", &g);
    failures("deletion", &f);
    for note in &f {
        match note.outcome.as_ref().unwrap_or_else(|error| panic!("expected an answer: {error} in {note:?}")) {
            response if note.sent >= deleted => response.assert_refused(404, "unknown-function"),
            response if response.status == 200 => {}
            response => response.assert_refused(404, "unknown-function"),
        }
    }
    let kept = cluster.ready_sandboxes("g").len();
    wait_for("no sandbox but those of the other function", || {
        let held = cluster.held();
        check(held.len() == kept, format!("{held:?}"))
    });
    cluster.wait_for_rest();
    assert_eq!(cluster.sandbox_processes().len(), kept, "expected no other process");
}
