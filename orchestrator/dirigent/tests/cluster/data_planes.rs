//! Data planes that come late, die and come back.

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    http,
    invocation::Invocation,
    traffic::Traffic,
    wait::{look, wait_for},
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
    let ready = http::ask(cluster.data_planes[0].address("admin"), "GET /readyz", "");
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
        look(status["data_planes"].as_array().unwrap().len() == 1, &status)
    });
    // What the dead one held is not lent blindly: the other gets a sandbox of its own.
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
