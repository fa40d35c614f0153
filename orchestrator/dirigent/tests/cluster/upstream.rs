//! Sandboxes that die under an invocation: a failure is never a 200, and what may be tried again is.

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    http::{self, Ongoing},
    invocation::Invocation,
    probe, process,
    wait::{check, wait_for},
};

/// Begins an invocation that would run for minutes, and gives the process of the only sandbox, which runs it.
fn begin(cluster: &Cluster, invocation: Invocation) -> (Ongoing, u32) {
    let ongoing = invocation.run_ms(300_000).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    let sandboxes = cluster.sandbox_processes();
    assert_eq!(sandboxes.len(), 1, "expected one sandbox process");
    (ongoing, sandboxes[0])
}

#[test]
fn a_post_whose_sandbox_dies_is_a_502() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({ "scale": { "max": 1 } }));
    let (ongoing, sandbox) = begin(&cluster, Invocation::of("f").post());
    process::kill(sandbox);
    ongoing.response().unwrap().assert_refused(502, "upstream");
    // The next one may meet the dead sandbox before anyone knows; it is refused there and goes on.
    cluster.invoke("f").assert_ok();
}

#[test]
fn a_get_whose_sandbox_dies_is_given_to_another_one() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({ "scale": { "max": 1 } }));
    let first = cluster.invoke("f").sandbox().to_owned();
    let ongoing = Invocation::of("f").run_ms(2000).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    process::kill(cluster.sandbox_processes()[0]);
    let response = ongoing.response().unwrap();
    // The dead sandbox may be asked once more before anyone knows that it is dead: it refuses the connection.
    assert!((2..=3).contains(&response.assert_ok().attempts()), "expected another attempt: {response:?}");
    assert_ne!(response.sandbox(), first, "expected another sandbox");
}

#[test]
fn a_request_that_kills_every_sandbox_it_meets_meets_few() {
    let cluster = Cluster::start(Plan::PROCESS);
    let directory = cluster.directory().join("observation");
    std::fs::create_dir(&directory).unwrap();
    cluster.register("f", probe::function(&directory, 1, 4));
    let deadly = Invocation::of("f").deadly();
    deadly.clone().post().at(cluster.invoke_address()).assert_refused(502, "upstream");
    assert_eq!(probe::assert_never_more_than(&directory, 1), 1, "a POST that was read is not sent again");
    deadly.at(cluster.invoke_address()).assert_refused(502, "upstream");
    let killed = probe::assert_never_more_than(&directory, 1) - 1;
    assert!((2..=3).contains(&killed), "expected the GET to be tried again, at most three times: {killed}");
    cluster.invoke("f").assert_ok();
}

#[test]
fn a_sandbox_that_died_while_idle_costs_no_invocation() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({ "scale": { "max": 1 } }));
    for _ in 0..5 {
        let before = cluster.invoke("f").assert_ok().sandbox().to_owned();
        process::kill(cluster.sandbox_processes()[0]);
        // At once: the data plane may not know yet, and finds the connection refused or just broken.
        let after = cluster.invoke("f");
        assert_ne!(after.assert_ok().sandbox(), before, "a dead sandbox cannot have answered");
    }
}

#[test]
fn posts_in_flight_when_a_worker_dies_are_502_and_never_200() {
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::HOLLOW });
    cluster.register("f", json!({}));
    let ongoing: Vec<_> =
        (0..20).map(|_| Invocation::of("f").post().run_ms(300_000).begin(cluster.invoke_address()).unwrap()).collect();
    cluster.wait_for_demand(0, "f", 0, 20);
    // Each has its slot; what is sent over a connection that is not open yet would be sent elsewhere and wait for it.
    wait_for("a connection for each", || {
        let page = http::request(cluster.data_planes[0].address("admin"), "GET /metrics", "").body;
        let opened = "dirigent_data_plane_upstream_connections_opened_total 20\n";
        check(page.contains(opened), page)
    });
    cluster.workers[0].crash();
    for invocation in ongoing {
        invocation.response().unwrap().assert_refused(502, "upstream");
    }
}
