//! A cluster that is full: invocations wait or are refused as documented, go on as soon as there is room, and no node is
//! given more than it has.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan, number},
    invocation::Invocation,
    wait::{check, wait_for},
};

/// Two sandboxes of half a core fit on each node.
const PLAN: Plan = Plan { cpu: "1", ..Plan::HOLLOW };
const HALF_A_CORE: u32 = 500;
/// Longest time until freed capacity is used, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Fails when a node has reserved, or a worker holds, more than the node's capacity.
fn assert_nothing_exceeded(cluster: &Cluster) {
    let nodes = cluster.operator("GET /v1/nodes", "").json();
    for node in nodes["nodes"].as_array().unwrap() {
        for resource in ["cpu_millicores", "memory_mib"] {
            let (reserved, capacity) = (&node["reserved"][resource], &node["capacity"][resource]);
            assert!(number(reserved) <= number(capacity), "expected reservations within the node: {node}");
        }
    }
    for worker in &cluster.workers {
        let held = crate::http::request(worker.address("admin"), "GET /v1/sandboxes", "").json();
        assert!(held.as_array().unwrap().len() <= 2, "expected two sandboxes of half a core at most: {held}");
    }
}

/// Registers a function of half a core that has `min` sandboxes.
fn register(cluster: &Cluster, name: &str, min: u32, queue: &serde_json::Value) {
    cluster.register(name, json!({ "cpu": HALF_A_CORE, "scale": { "min": min }, "queue": queue }));
}

fn wait_for_sandboxes(cluster: &Cluster, name: &str, count: usize) {
    wait_for(&format!("{count} sandboxes of {name}"), || {
        assert_nothing_exceeded(cluster);
        check(cluster.ready_sandboxes(name).len() == count, cluster.show(name))
    });
}

#[test]
fn a_full_cluster_says_so_and_uses_room_as_soon_as_there_is_some() {
    let mut cluster = Cluster::start(PLAN);
    register(&cluster, "first", 4, &json!({}));
    wait_for_sandboxes(&cluster, "first", 4);

    register(&cluster, "hasty", 0, &json!({ "deadline": "1s", "limit": 2 }));
    let waiting = [(); 2].map(|()| Invocation::of("hasty").begin(cluster.invoke_address()).unwrap());
    cluster.wait_for_demand(0, "hasty", 2, 0);
    cluster.invoke("hasty").assert_refused(503, "queue-full");
    for late in waiting {
        late.response().unwrap().assert_refused(504, "queue-deadline");
    }
    assert_nothing_exceeded(&cluster);

    // Room made by the end of another function.
    register(&cluster, "second", 0, &json!({}));
    let waiting = [(); 6].map(|()| Invocation::of("second").run_ms(300).begin(cluster.invoke_address()).unwrap());
    cluster.wait_for_demand(0, "second", 6, 0);
    cluster.delete("first");
    wait_for_sandboxes(&cluster, "second", 4);
    for served in waiting {
        served.response().unwrap().assert_ok();
    }

    // Room brought by another worker.
    register(&cluster, "third", 0, &json!({}));
    let waiting = Invocation::of("third").begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "third", 1, 0);
    wait_for("the control plane to lack room for it, and for nothing else", || {
        let status = cluster.status();
        check(number(&status["functions_unschedulable"]) == 1, &status)
    });
    let stream = cluster.control_plane.address("stream").to_owned();
    cluster.add_worker(PLAN, &stream);
    cluster.wait_until_whole();
    let whole = tokio::time::Instant::now();
    waiting.response().unwrap().assert_ok();
    assert!(whole.elapsed() < AT_ONCE, "expected the new room to be used at once, not after {:?}", whole.elapsed());
    assert_nothing_exceeded(&cluster);
    cluster.wait_for_rest();
}
