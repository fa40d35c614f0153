//! Deregistration: drained before deleted, and nothing left behind.

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    invocation::Invocation,
    wait::{look, wait_for},
};

#[test]
fn what_runs_finishes_what_comes_later_is_unknown_and_no_sandbox_stays() {
    let cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "scale": { "min": 3 } }));
    wait_for("three sandboxes", || look(cluster.ready_sandboxes("f").len() == 3, cluster.show("f")));
    let running = Invocation::of("f").post().run_ms(1500).begin(cluster.door()).unwrap();
    cluster.wait_for_level(0, "f", 0, 1);

    let deleted = cluster.operator("DELETE /v1/functions/f", "");
    assert_eq!(deleted.status, 202, "{deleted:?}");
    cluster.invoke("f").assert_refused(404, "unknown-function");
    assert_eq!(cluster.operator("GET /v1/functions/f", "").status, 404, "expected no trace of it");
    assert_eq!(cluster.operator("DELETE /v1/functions/f", "").status, 404, "it is gone already");
    let held = cluster.held();
    assert!(!held.is_empty(), "expected the sandbox that still runs an invocation to be there");

    let finished = running.answer().unwrap();
    finished.assert_ok();
    wait_for("no sandbox on any worker", || {
        let held = cluster.held();
        look(held.is_empty(), format!("{held:?}"))
    });
    cluster.wait_for_rest();

    cluster.register("f", json!({}));
    let anew = cluster.invoke("f");
    assert_ne!(anew.assert_ok().sandbox(), finished.sandbox(), "a new registration has sandboxes of its own");
}

#[test]
fn who_waits_for_a_function_that_is_deleted_is_answered_at_once() {
    let cluster = Cluster::start(Plan { cpu: "1", ..Plan::HOLLOW });
    cluster.register("huge", json!({ "cpu": 2000 }));
    let waiting = Invocation::of("huge").begin(cluster.door()).unwrap();
    cluster.wait_for_level(0, "huge", 1, 0);
    assert_eq!(cluster.operator("DELETE /v1/functions/huge", "").status, 202);
    waiting.answer().unwrap().assert_refused(404, "unknown-function");
}
