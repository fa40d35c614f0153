//! Links between parts that are cut and healed, by reset and in silence: what runs goes on, what waits is served, and
//! nothing is left behind.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    http,
    invocation::Invocation,
    process,
    relay::{Link, Relay},
    traffic::{Traffic, assert_no_failure},
    wait::{check, wait_for},
};

/// Enough that both workers have some of them.
const FUNCTIONS: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];

fn register(cluster: &Cluster) {
    for name in FUNCTIONS {
        cluster.register(name, json!({ "scale": { "stable_window": "1s", "keep_alive": "60s" } }));
        cluster.invoke(name).assert_ok();
    }
}

/// Cuts the link of one worker of two under traffic, and heals it.
fn cut_worker(link: Link) {
    // The relay carries connections only; what is cut is all there is between the two.
    let plan = Plan { workers: 1, datagrams: false, ..Plan::HOLLOW };
    let mut cluster = Cluster::start(plan);
    let relay = Relay::start(cluster.control_plane.address("stream"));
    cluster.add_worker(plan, relay.address());
    cluster.wait_until_whole();
    register(&cluster);
    let traffic = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    traffic.wait_for_more(100);

    relay.set(link);
    cluster.wait_for_node("worker-1", "suspect");
    traffic.wait_for_more(500);
    // New ones as well.
    cluster.register("meanwhile", json!({}));
    cluster.invoke("meanwhile").assert_ok();
    relay.set(Link::Whole);
    cluster.wait_for_node("worker-1", "ready");
    traffic.wait_for_more(300);
    assert_no_failure(&format!("link worker to control plane {link:?}"), &traffic.stop());
    wait_for("the surplus made meanwhile to be gone", || {
        let surplus: Vec<_> = FUNCTIONS.iter().filter(|name| cluster.ready_sandboxes(name).len() != 1).collect();
        check(surplus.is_empty(), format!("{surplus:?}"))
    });
    cluster.wait_for_rest();
}

/// Cuts the link of one data plane of two under traffic through both, and heals it.
fn cut_data_plane(link: Link) {
    let mut cluster = Cluster::start(Plan::HOLLOW);
    let relay = Relay::start(cluster.control_plane.address("stream"));
    cluster.add_data_plane(relay.address());
    cluster.wait_until_whole();
    register(&cluster);
    let cut = cluster.data_planes[1].address("invoke").to_owned();
    cluster.register("theirs", json!({}));
    Invocation::of("theirs").at(&cut).assert_ok();
    let whole_side = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    let cut_side = Traffic::start(&cut, &["theirs"], 5);
    cut_side.wait_for_more(100);

    relay.set(link);
    wait_for("the control plane to see it leave", || {
        let status = cluster.status();
        check(status["data_planes"].as_array().unwrap().len() == 1, &status)
    });
    cut_side.wait_for_more(300);
    cluster.register("cold", json!({}));
    cluster.invoke("cold").assert_ok();
    // What the one that is cut off holds is out of reach, but not counted on.
    let response = cluster.invoke("theirs");
    assert!(response.assert_ok().took < Duration::from_secs(5), "expected another sandbox soon: {response:?}");
    // The one that is cut off knows some functions and cannot get a sandbox for them: it waits.
    let waits = Invocation::of("f0").begin(&cut).unwrap();
    cluster.wait_for_demand(1, "f0", 1, 0);
    relay.set(Link::Whole);
    waits.response().unwrap().assert_ok();
    cluster.wait_until_whole();
    Invocation::of("cold").at(&cut).assert_ok();
    whole_side.wait_for_more(100);
    assert_no_failure(&format!("link data plane to control plane {link:?}, through it"), &cut_side.stop());
    assert_no_failure(&format!("link data plane to control plane {link:?}, the other"), &whole_side.stop());
    cluster.wait_for_rest();
}

#[test]
fn a_worker_whose_link_is_reset_costs_nobody_an_invocation() {
    cut_worker(Link::Cut);
}

#[test]
fn a_worker_whose_link_falls_silent_costs_nobody_an_invocation() {
    cut_worker(Link::Silent);
}

#[test]
fn a_data_plane_whose_link_is_reset_goes_on_with_what_it_has() {
    cut_data_plane(Link::Cut);
}

#[test]
fn a_data_plane_whose_link_falls_silent_goes_on_with_what_it_has() {
    cut_data_plane(Link::Silent);
}

#[test]
fn a_data_plane_that_only_the_control_plane_cannot_reach_finds_out_that_its_sandboxes_were_deleted() {
    let plan = Plan { data_planes: 0, workers: 1, health: "data_plane_grace = '1s'", ..Plan::PROCESS };
    let mut cluster = Cluster::start(plan);
    let relay = Relay::start(cluster.control_plane.address("stream"));
    cluster.add_data_plane(relay.address());
    cluster.wait_until_whole();
    cluster.register("f", json!({ "queue": { "deadline": "1s" } }));
    cluster.invoke("f").assert_ok();
    let processes = cluster.sandbox_processes();

    relay.set(Link::Cut);
    wait_for("the control plane to delete what it held", || {
        let alive = process::alive(&processes);
        check(alive.is_empty(), format!("{alive:?}"))
    });
    wait_for("the data plane to find that out without an invocation", || {
        let metrics = http::request(cluster.data_planes[0].address("admin"), "GET /metrics", "").body;
        check(metrics.contains("\ndirigent_data_plane_sandboxes_failed_total 1\n"), metrics)
    });
    cluster.invoke("f").assert_refused(504, "queue-deadline");
    relay.set(Link::Whole);
    cluster.wait_until_whole();
    cluster.invoke("f").assert_ok();
    cluster.wait_for_rest();
}
