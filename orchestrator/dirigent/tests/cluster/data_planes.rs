//! Data planes that come late, die and come back.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    http,
    invocation::Invocation,
    traffic::Traffic,
    wait::{check, wait_for},
};

#[test]
fn it_serves_only_once_it_knows_the_functions() {
    let mut cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({}));
    cluster.invoke("f").assert_ok();
    cluster.control_plane.crash();
    cluster.data_planes[0].crash();

    cluster.data_planes[0].start_again();
    for name in ["f", "nobody"] {
        let early = cluster.invoke(name);
        early.assert_refused(503, "not-ready");
        assert!(early.header("retry-after").is_some(), "expected Retry-After: {early:?}");
    }
    let ready = http::request(cluster.data_planes[0].address("admin"), "GET /readyz", "");
    assert_eq!(ready.status, 503, "expected it not to be ready: {ready:?}");

    cluster.control_plane.start_again();
    cluster.wait_until_whole();
    cluster.invoke("f").assert_ok();
    cluster.invoke("nobody").assert_refused(404, "unknown-function");
}

#[test]
fn one_that_dies_takes_nothing_with_it_but_its_own_connections() {
    let mut cluster = Cluster::start(Plan { data_planes: 2, ..Plan::HOLLOW });
    cluster.register("mine", json!({}));
    cluster.register("theirs", json!({}));
    cluster.invoke("mine").assert_ok();
    let other = cluster.data_planes[1].address("invoke").to_owned();
    Invocation::of("theirs").at(&other).assert_ok();
    let traffic = Traffic::start(&other, &["theirs"], 2);

    cluster.data_planes[0].crash();
    wait_for("the control plane to see it leave", || {
        let status = cluster.status();
        check(status["data_planes"].as_array().unwrap().len() == 1, &status)
    });
    // What the dead one held is not granted blindly: the other gets a sandbox of its own.
    Invocation::of("mine").at(&other).assert_ok();
    cluster.data_planes[0].start_again();
    cluster.wait_until_whole();
    cluster.invoke("mine").assert_ok();
    cluster.invoke("theirs").assert_ok();
    cluster.invoke("nobody").assert_refused(404, "unknown-function");

    let noted = traffic.stop();
    assert!(!noted.is_empty(), "expected traffic");
    for note in noted {
        note.outcome.unwrap().assert_ok();
    }
    cluster.wait_for_rest();
}

#[test]
fn what_a_dead_one_held_idle_keeps_nobody_waiting_and_the_bound_is_kept() {
    let mut cluster = Cluster::start(Plan { data_planes: 2, ..Plan::HOLLOW });
    cluster.register("f", json!({}));
    cluster.register("one", json!({ "scale": { "max": 1 }, "queue": { "deadline": "1s" } }));
    let other = cluster.data_planes[1].address("invoke").to_owned();
    for name in ["f", "one"] {
        cluster.invoke(name).assert_ok();
        wait_for("the control plane to know that nothing runs", || {
            let shown = cluster.show(name);
            check(shown["running"] == 0 && shown["waiting"] == 0, shown)
        });
    }
    cluster.data_planes[0].crash();
    let response = Invocation::of("f").at(&other);
    // Far less than the grace of 30 s, for which the dead one keeps what it held.
    assert!(response.assert_ok().took < Duration::from_secs(5), "expected another sandbox soon: {response:?}");
    // Whether the only sandbox that may be still runs something, nobody can say.
    Invocation::of("one").at(&other).assert_refused(504, "queue-deadline");

    cluster.data_planes[0].start_again();
    cluster.wait_until_whole();
    Invocation::of("one").at(&other).assert_ok();
    cluster.wait_for_rest();
    assert_eq!(cluster.ready_sandboxes("one").len(), 1, "expected no more than its bound");
}
