//! `dirigent top` and `dirigent status` against a cluster of modelled sandboxes, without a terminal.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::Value;

use crate::cluster::{Cluster, dirigent, wait_for};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("expected JSON ({error}): {text}"))
}

#[test]
fn top_shows_running_sandboxes_and_latencies() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    cluster.operator_ok(&["function", "register", "hello", "--image", "any"]);
    cluster.operator_ok(&["function", "register", "idle", "--image", "any"]);
    let mut invocation = cluster.begin_invocation("hello", 60_000);

    // Samples come each second, so the first interval may end before one has.
    let once = ["top", "--once", "--interval", "300ms", "--format", "json"];
    let top = wait_for("a running invocation", || {
        let top = json(&cluster.operator_ok(&once));
        if top.pointer("/functions/0/running") == Some(&1.into()) { Ok(top) } else { Err(top.to_string()) }
    });
    assert_eq!(
        (&top["functions"][0]["name"], &top["functions"][1]["name"]),
        (&"hello".into(), &"idle".into()),
        "{top}"
    );
    assert_eq!((&top["functions"][0]["ready"], &top["cluster"]["granted_slots"]), (&1.into(), &1.into()), "{top}");
    assert!(top["span_s"].as_f64().is_some_and(|span_s| span_s >= 0.3), "{top}");
    let phases: Vec<_> = top["phases"].as_array().unwrap().iter().map(|phase| phase["phase"].clone()).collect();
    assert_eq!(phases.len(), 8, "{phases:?}");
    assert_eq!((&top["nodes"][0]["state"], &top["nodes"][0]["sandboxes"]), (&"ready".into(), &1.into()), "{top}");

    let csv = cluster.operator_ok(&["top", "--interval", "100ms", "--format", "csv", "--limit", "1"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("function,invocations/s,creations/s,cold share,waiting,running,"), "{csv}");
    assert!(lines.len() == 2 && lines[1].starts_with("hello,"), "{csv}");

    // Standard output is no terminal: one plain table, and the end.
    let table = cluster.operator_ok(&["top", "--interval", "100ms"]);
    for expected in ["leader, epoch 1", "invocations/s", "hello", "reserved share", "net_dataplane"] {
        assert!(table.contains(expected), "expected {expected:?} in\n{table}");
    }
    assert!(!table.contains('\u{1b}'), "expected no control sequences: {table:?}");
    let status = json(&cluster.operator_ok(&["status", "--format", "json"]));
    assert_eq!((&status["granted_slots"], &status["running"]), (&1.into(), &1.into()), "{status}");
    invocation.kill().unwrap();
    invocation.wait().unwrap();
}

#[test]
fn invocations_between_two_snapshots_are_a_rate() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    cluster.operator_ok(&["function", "register", "hello", "--image", "any"]);
    let enough = AtomicBool::new(false);
    let top = thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                let invoked = cluster.invoke("hello", &[]);
                assert!(invoked.status.success(), "{invoked:?}");
            }
        });
        let _stops = Stops(&enough);
        wait_for("a rate of invocations", || {
            let top = json(&cluster.operator_ok(&["top", "--once", "--interval", "1s", "--format", "json"]));
            let rate = top.pointer("/functions/0/invocations_per_s").and_then(Value::as_f64);
            if rate.is_some_and(|rate| rate > 0.0) { Ok(top) } else { Err(top.to_string()) }
        })
    });
    let share = top["functions"][0]["cold_share"].as_f64();
    assert!(share.is_some_and(|share| (0.0..=1.0).contains(&share)), "{top}");
}

/// Ends the load also when the test fails, which waits for its threads.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn without_a_control_plane_a_single_snapshot_fails_and_names_its_address() {
    let output = dirigent().args(["top", "--once", "--control-plane", "127.0.0.1:1"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("control plane at http://127.0.0.1:1: "), "{said}");
}
