//! The control plane dies and comes back: nothing registered is lost, and warm traffic does not notice.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan, number},
    invocation::Invocation,
    traffic::Traffic,
    wait::{check, wait_for, wait_within},
};

#[test]
fn warm_traffic_goes_on_without_it_and_nothing_is_lost() {
    let mut cluster = Cluster::start(Plan::HOLLOW);
    for number in 0..20 {
        cluster.register(&format!("f{number}"), json!({}));
    }
    let warm = ["f0", "f1"];
    let before: BTreeSet<String> =
        warm.iter().map(|name| cluster.invoke(name).assert_ok().sandbox().to_owned()).collect();
    let epoch = number(&cluster.status()["epoch"]);

    let traffic = Traffic::start(cluster.invoke_address(), &warm, 2);
    wait_for("traffic", || check(traffic.count() > 20, traffic.count()));
    cluster.control_plane.crash();
    let at_crash = traffic.count();
    wait_for("traffic without a control plane", || check(traffic.count() > at_crash + 300, traffic.count()));
    // Needs a sandbox, which nobody can make now: it waits and is served later.
    let cold = Invocation::of("f7").begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f7", 1, 0);

    cluster.control_plane.start_again();
    let response = cold.response().unwrap();
    response.assert_ok();
    let another = cluster.invoke("f8");
    assert!(another.assert_ok().took < Duration::from_secs(5), "expected cold starts to work again: {another:?}");
    cluster.wait_until_whole();
    let at_return = traffic.count();
    wait_for("traffic afterwards", || check(traffic.count() > at_return + 100, traffic.count()));

    let noted = traffic.stop();
    for note in &noted {
        let response = note.outcome.as_ref().unwrap_or_else(|error| panic!("expected no failure: {error} in {note:?}"));
        response.assert_ok();
        assert!(before.contains(response.sandbox()), "expected the sandboxes to be adopted and used: {note:?}");
    }
    let listed = cluster.operator("GET /v1/functions", "").json();
    assert_eq!(listed["functions"].as_array().unwrap().len(), 20, "expected every function: {listed}");
    assert!(number(&cluster.status()["epoch"]) > epoch, "expected a new epoch: {}", cluster.status());
    for name in warm {
        let adopted = cluster.ready_sandboxes(name);
        assert!(adopted.len() == 1 && before.contains(&adopted[0]), "expected its sandbox adopted: {adopted:?}");
    }
    cluster.wait_for_rest();
}

#[test]
fn an_acknowledged_registration_survives_a_crash_right_after() {
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::HOLLOW });
    for round in 0..3 {
        let name = format!("f{round}");
        cluster.register(&name, json!({ "memory": 64 + round }));
        cluster.control_plane.crash();
        cluster.control_plane.start_again();
        cluster.wait_until_whole();
        assert_eq!(cluster.show(&name)["spec"]["memory"], 64 + round, "expected {name} as registered");
        cluster.invoke(&name).assert_ok();
    }
    assert_eq!(cluster.operator("DELETE /v1/functions/f0", "").status, 202);
    cluster.control_plane.crash();
    cluster.control_plane.start_again();
    cluster.wait_until_whole();
    assert_eq!(cluster.operator("GET /v1/functions/f0", "").status, 404, "a deletion is durable as well");
    cluster.wait_for_rest();
    assert_eq!(cluster.held().len(), 2, "expected the deleted function's sandbox to be gone: {:?}", cluster.held());
}

#[test]
fn a_function_deleted_while_its_invocation_runs_does_not_come_back_with_the_control_plane() {
    let mut cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({}));
    let running = Invocation::of("f").run_ms(3000).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    assert_eq!(cluster.operator("DELETE /v1/functions/f", "").status, 202);
    cluster.control_plane.crash();
    cluster.control_plane.start_again();
    cluster.wait_until_whole();
    cluster.invoke("f").assert_refused(404, "unknown-function");
    // Its sandbox is found again, held by the data plane, and drained before it ends.
    running.response().unwrap().assert_ok();
    wait_within(Duration::from_secs(10), "no sandbox of it", || {
        let held = cluster.held();
        check(held.is_empty(), format!("{held:?}"))
    });
}
