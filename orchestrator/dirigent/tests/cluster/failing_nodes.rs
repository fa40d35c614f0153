//! Creations that fail: the node that fails them is avoided, attempts are few, and both callers and operators see why.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan, number},
    traffic::{Traffic, failures},
    wait::{check, wait_for},
};

/// Functions invoked one after the other: each would try a node that failed those before it.
const FUNCTIONS: usize = 20;
/// Failed creations until a node's failures are believed, and as many again for a second check of it.
const FEW: usize = 6;

/// Creations that failed so far.
fn failed_creations(cluster: &Cluster) -> usize {
    let page = cluster.operator("GET /metrics", "").body;
    let mut lines = page.lines().filter(|line| line.contains("creations_ended_total{outcome=\"failed\"}"));
    let count = lines.next().and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or_else(|| panic!("expected a count of failed creations: {page}"))
}

#[test]
fn a_node_that_fails_every_creation_is_avoided_by_all_functions() {
    let broken = Plan { process: "function = '/nonexistent'", ..Plan::PROCESS };
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::PROCESS });
    let stream = cluster.control_plane.address("stream").to_owned();
    cluster.add_worker(broken, &stream);
    cluster.wait_until_whole();
    for number in 0..FUNCTIONS {
        let name = format!("f{number}");
        cluster.register(&name, json!({}));
        let response = cluster.invoke(&name);
        response.assert_ok();
        assert!(response.took < Duration::from_secs(5), "expected the other node to be used at once: {response:?}");
    }
    // The nodes that failed one function are avoided by its next sandboxes, too.
    cluster.update("f0", json!({ "scale": { "min": 6 } }));
    wait_for("six sandboxes", || check(cluster.ready_sandboxes("f0").len() == 6, cluster.show("f0")));
    let failed = failed_creations(&cluster);
    eprintln!("one node of two fails: {failed} creations failed, {FUNCTIONS} cold starts answered");
    assert!((1..=FEW).contains(&failed), "expected the failing node to be met, and then avoided: {failed} failed");
    cluster.wait_for_rest();
}

#[test]
fn a_program_that_never_starts_is_tried_a_few_times_and_the_reason_is_shown() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({ "image": "file:/bin/false", "queue": { "deadline": "3s" }, "scale": { "max": 1 } }));
    let late = cluster.invoke("f");
    assert!(
        matches!((late.status, late.error()), (504, "queue-deadline") | (503, "creation-failed")),
        "expected an explicit failure: {late:?}"
    );
    assert!(late.took < Duration::from_secs(6), "expected the answer at the deadline: {late:?}");
    let shown = cluster.show("f");
    assert!(number(&shown["failures"]) >= 2, "expected failures to be counted: {shown}");
    assert!(shown["last_error"].as_str().unwrap().contains("ended before it was ready"), "{shown}");
    // Back-offs of 100, 200, 400, 800 and 1600 ms fill the three seconds.
    let failed = failed_creations(&cluster);
    assert!((2..=8).contains(&failed), "expected a few attempts within three seconds: {failed}");
}

#[test]
fn many_callers_of_an_image_that_does_not_exist_cause_few_attempts() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({ "image": "file:/nonexistent" }));
    let traffic = Traffic::start(cluster.invoke_address(), &["f"; 10], 0);
    traffic.wait_for_more(500);
    let noted = traffic.stop();
    let seen = failures("image that does not exist", &noted);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["503 creation-failed"], "expected nothing else");
    assert_eq!(seen.values().sum::<usize>(), noted.len(), "expected no answer but failures");
    // Three rounds, each for everybody who waits at the time.
    let failed = failed_creations(&cluster);
    assert!(failed <= 3 * 10, "expected no more attempts than callers in each of three rounds: {failed}");
}

#[test]
fn a_function_that_never_listens_leaves_capacity_to_others() {
    // Four programs may be started at once, and one that does not listen is waited for much longer than the others wait.
    let process = "parallel_starts = 4, ready_deadline = '5m'";
    let cluster = Cluster::start(Plan { workers: 1, process, ..Plan::PROCESS });
    cluster.register("deaf", json!({ "image": "file:/bin/sleep", "args": ["600"], "scale": { "min": 8 } }));
    wait_for("its share of places to be taken", || {
        let shown = cluster.show("deaf");
        check(number(&shown["starting"]) == 8 && cluster.sandbox_processes().len() == 2, shown)
    });
    for number in 0..4 {
        let name = format!("f{number}");
        cluster.register(&name, json!({ "queue": { "deadline": "20s" } }));
        cluster.invoke(&name).assert_ok();
    }
    assert_eq!(cluster.sandbox_processes().len(), 2 + 4, "expected half of the places to be the other function's");
}

#[test]
fn a_creation_that_takes_too_long_is_given_up_and_counted() {
    let cluster =
        Cluster::start(Plan { health: "creation_deadline = '2s'", process: "ready_deadline = '5m'", ..Plan::PROCESS });
    cluster.register("deaf", json!({ "image": "file:/bin/sleep", "args": ["600"], "scale": { "min": 1, "max": 1 } }));
    wait_for("two failures", || {
        let shown = cluster.show("deaf");
        check(number(&shown["failures"]) >= 2, shown)
    });
    let shown = cluster.show("deaf");
    assert!(shown["last_error"].as_str().unwrap().contains("it was not ready within 2s"), "{shown}");
    cluster.delete("deaf");
    wait_for("no process of it", || {
        let left = cluster.sandbox_processes();
        check(left.is_empty(), format!("{left:?}"))
    });
}

#[test]
fn creations_that_are_queued_longer_than_one_may_take_are_no_failures() {
    let cluster = Cluster::start(Plan {
        workers: 1,
        delay: "400ms",
        health: "creation_deadline = '2s'",
        hollow: "parallel_starts = 1",
        ..Plan::HOLLOW
    });
    // Ten times 0.4 s of work, one after the other: twice as long as one may take.
    let names: Vec<_> = (0..10).map(|number| format!("f{number}")).collect();
    names.iter().for_each(|name| cluster.register(name, json!({ "scale": { "min": 1 } })));
    wait_for("a sandbox of each", || {
        let missing: Vec<_> = names.iter().filter(|name| cluster.ready_sandboxes(name).is_empty()).collect();
        check(missing.is_empty(), format!("{missing:?}"))
    });
    for name in &names {
        let shown = cluster.show(name);
        assert_eq!(number(&shown["failures"]), 0, "{shown}");
    }
    let page = cluster.operator("GET /metrics", "").body;
    let made = page.lines().find(|line| line.contains("creations_total "));
    assert!(made.is_some_and(|line| line.ends_with(" 10")), "expected each to have been made once: {made:?}");
}
