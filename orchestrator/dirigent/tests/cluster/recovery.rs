//! The control plane is killed in the middle of something: creations under way, or sandboxes that drain. What waited is
//! with a response, and afterwards nothing exists that nobody knows of.

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan, number},
    http::Ongoing,
    invocation::Invocation,
    traffic::{Traffic, assert_no_failure},
    wait::{check, wait_for},
};

/// Cold starts at once.
const BURST: usize = 60;
/// Kills in one burst.
const KILLS: usize = 3;

/// Kills the control plane and waits until all parts are connected to the next one.
fn kill(cluster: &mut Cluster) {
    cluster.control_plane.crash();
    cluster.control_plane.start_again();
    cluster.wait_until_whole();
}

fn begin_burst(cluster: &Cluster, first: usize) -> Vec<Ongoing> {
    let names = (first..first + BURST).map(|number| format!("f{number}"));
    names.map(|name| Invocation::of(&name).begin(cluster.invoke_address()).unwrap()).collect()
}

#[test]
fn cold_starts_that_a_kill_interrupts_complete_once_it_is_back() {
    let mut cluster = Cluster::start(Plan { delay: "300ms", ..Plan::HOLLOW });
    for number in 0..BURST * KILLS {
        cluster.register(&format!("f{number}"), json!({ "cpu": 10 }));
    }
    for round in 0..KILLS {
        let burst = begin_burst(&cluster, round * BURST);
        // Each kill meets another part of it: all commanded, some ready, most ready.
        wait_for("creations under way", || {
            let status = cluster.status();
            let (starting, ready) = (number(&status["sandboxes_starting"]), number(&status["sandboxes_ready"]));
            check(starting + ready > round * BURST && ready >= round * (BURST + 10), &status)
        });
        kill(&mut cluster);
        for ongoing in burst {
            ongoing.response().unwrap().assert_ok();
        }
    }
    cluster.wait_for_rest();
    // One for each, and none twice: what one term commanded the next one takes over or ends.
    let (held, functions) = (cluster.held().len(), BURST * KILLS);
    assert!(held >= functions, "expected a sandbox of each of {functions} functions, found {held}");
    let listed = cluster.operator("GET /v1/functions?limit=1000", "").json();
    assert_eq!(listed["functions"].as_array().unwrap().len(), functions, "expected every function");
}

#[test]
fn a_kill_while_old_sandboxes_drain_leaves_none_of_them() {
    let mut cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "memory": 64, "scale": { "min": 6 } }));
    wait_for("six sandboxes", || check(cluster.ready_sandboxes("f").len() == 6, cluster.show("f")));
    let old = cluster.ready_sandboxes("f");
    let running = [(); 4].map(|()| Invocation::of("f").run_ms(3000).begin(cluster.invoke_address()).unwrap());
    cluster.wait_for_demand(0, "f", 0, 4);
    cluster.update("f", json!({ "memory": 65, "scale": { "min": 2 } }));
    wait_for("sandboxes that drain", || {
        let status = cluster.status();
        check(number(&status["sandboxes_leaving"]) > 0, &status)
    });
    kill(&mut cluster);
    for ongoing in running {
        // A GET whose sandbox is ended is given to another one.
        ongoing.response().unwrap().assert_ok();
    }
    cluster.invoke("f").assert_ok();
    wait_for("no sandbox of the old revision", || {
        let held = cluster.held();
        let is_old = |held: &serde_json::Value| old.iter().any(|old| held["sandbox"] == old.as_str());
        check(!held.iter().any(is_old), format!("{held:?}"))
    });
    cluster.wait_for_rest();
}

#[test]
fn a_kill_right_after_registrations_and_deletions_loses_none_of_them() {
    let mut cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("warm", json!({}));
    cluster.invoke("warm").assert_ok();
    let traffic = Traffic::start(cluster.invoke_address(), &["warm"], 5);
    for round in 0..3 {
        let (kept, deleted) = (format!("kept{round}"), format!("deleted{round}"));
        cluster.register(&deleted, json!({ "scale": { "min": 2 } }));
        cluster.register(&kept, json!({ "scale": { "min": 2 } }));
        cluster.delete(&deleted);
        kill(&mut cluster);
        cluster.invoke(&kept).assert_ok();
        cluster.invoke(&deleted).assert_refused(404, "unknown-function");
    }
    assert_no_failure("warm traffic over three kills of the control plane", &traffic.stop());
    for round in 0..3 {
        let name = format!("kept{round}");
        wait_for("its lower bound", || check(cluster.ready_sandboxes(&name).len() == 2, cluster.show(&name)));
    }
    cluster.wait_for_rest();
    assert_eq!(cluster.held().len(), 7, "expected two of each function kept, and one: {:?}", cluster.held());
}
