//! Functions that change while they are used: a new revision takes over from the old one, and bounds of scale are kept
//! from the moment they receive it.

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    invocation::Invocation,
    traffic::{Traffic, assert_no_failure},
    wait::{check, wait_for},
};

/// Waits until a function has this many sandboxes in service.
fn wait_for_ready(cluster: &Cluster, name: &str, count: usize) {
    wait_for(&format!("{count} sandboxes of {name}"), || {
        check(
            cluster.ready_sandboxes(name).len() == count,
            format!("{} and {}", cluster.show(name), cluster.demand(0, name)),
        )
    });
}

#[test]
fn a_new_revision_takes_over_under_traffic_and_the_old_one_finishes_what_it_runs() {
    let cluster = Cluster::start(Plan::HOLLOW);
    cluster.register("f", json!({ "memory": 64 }));
    let long = Invocation::of("f").post().run_ms(2000).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    let traffic = Traffic::start(cluster.invoke_address(), &["f"; 4], 5);
    traffic.wait_for_more(100);
    let old = cluster.ready_sandboxes("f");

    cluster.update("f", json!({ "memory": 65 }));
    let changed = tokio::time::Instant::now();
    traffic.wait_for_more(300);
    let noted = traffic.stop();
    assert_no_failure("new revision", &noted);
    let later: Vec<_> = noted.iter().filter(|note| note.sent >= changed).collect();
    assert!(later.len() > 200, "expected traffic after the change");
    for note in later {
        let sandbox = note.outcome.as_ref().unwrap().sandbox();
        assert!(!old.iter().any(|old| old == sandbox), "expected only new sandboxes after the change: {note:?}");
    }
    let finished = long.response().unwrap();
    let sandbox = finished.assert_ok().sandbox().to_owned();
    assert!(old.contains(&sandbox), "expected what ran to finish where it began: {finished:?}");
    cluster.wait_for_rest();
    let kept = cluster.ready_sandboxes("f");
    assert!(!kept.is_empty() && kept.iter().all(|kept| !old.contains(kept)), "expected none of {old:?} in {kept:?}");
}

#[test]
fn bounds_of_scale_are_kept_as_soon_as_they_are_changed() {
    let cluster = Cluster::start(Plan::HOLLOW);
    let scale =
        |min: u32, max: u32| json!({ "scale": { "min": min, "max": max, "stable_window": "1s", "keep_alive": "1s" } });
    cluster.register("f", scale(0, 8));
    cluster.update("f", scale(3, 8));
    // Nobody asks for them.
    wait_for_ready(&cluster, "f", 3);

    let traffic = Traffic::start(cluster.invoke_address(), &["f"; 6], 10);
    wait_for_ready(&cluster, "f", 6);
    cluster.update("f", scale(1, 2));
    wait_for_ready(&cluster, "f", 2);
    traffic.wait_for_more(100);
    assert_no_failure("upper bound lowered", &traffic.stop());
    wait_for_ready(&cluster, "f", 1);

    // Another one with the same times and no lower bound measures the idle time.
    cluster.register("idle", scale(0, 1));
    cluster.invoke("f").assert_ok();
    cluster.invoke("idle").assert_ok();
    wait_for_ready(&cluster, "idle", 0);
    assert_eq!(cluster.ready_sandboxes("f").len(), 1, "expected the lower bound to outlive idleness");
    cluster.update("f", scale(0, 1));
    wait_for_ready(&cluster, "f", 0);
    cluster.wait_for_rest();
    assert!(cluster.held().is_empty(), "expected nothing on the workers: {:?}", cluster.held());
}
