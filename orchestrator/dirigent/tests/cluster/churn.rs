//! Functions that come, are started cold and go, by the thousand: afterwards every part is as it was.

use std::thread;

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    daemon::Daemon,
    http,
    invocation::Invocation,
    process,
    wait::{check, wait_for},
};

/// Clients of one half of the churn; each registers so many functions at once, so many times, and each function has one
/// cold start: two thousand in all.
const CLIENTS: usize = 5;
const BATCHES: usize = 8;
const BATCH: usize = 25;
/// File descriptors that may be open beyond those before: connections of the last clients and of this test.
const DESCRIPTORS: usize = 24;
/// Memory that a half may add, in KiB. What allocators keep and tables that grow by doubling come to a few MiB over a
/// run; a leak of one message for each cold start, a few KiB, would be as much as this, and one of a connection more.
const GROWTH_KIB: u64 = 6 * 1024;

/// File descriptors of one component.
#[derive(Clone, Copy, Debug)]
struct Use {
    descriptors: usize,
    listening: usize,
    threads: usize,
    memory_kib: u64,
}

fn uses(cluster: &Cluster) -> Vec<(String, Use)> {
    let parts: Vec<&Daemon> =
        [&cluster.control_plane].into_iter().chain(&cluster.data_planes).chain(&cluster.workers).collect();
    let used = |part: &&Daemon| {
        let pid = part.pid();
        let used = Use {
            descriptors: process::descriptors(pid).len(),
            listening: process::listening(pid),
            threads: process::threads(pid),
            memory_kib: process::memory_kib(pid),
        };
        (part.name.clone(), used)
    };
    parts.iter().map(used).collect()
}

/// Registers functions of its own in bulk, invokes each once and deletes it.
fn churn(prefix: &str, operator: &str, invoke_address: &str) {
    for batch in 0..BATCHES {
        let names: Vec<_> = (0..BATCH).map(|number| format!("{prefix}-{batch}-{number}")).collect();
        let line = |name| format!("{}\n", json!({ "name": name, "image": "builtin:function", "cpu": 10 }));
        let registered = http::request(operator, "POST /v1/functions", &names.iter().map(line).collect::<String>());
        assert_eq!(registered.status, 200, "{registered:?}");
        for name in names {
            let response = Invocation::of(&name).at(invoke_address);
            assert_eq!(
                response.assert_ok().header("x-dirigent-cold"),
                Some("1"),
                "expected a cold start: {response:?}"
            );
            let deleted = http::request(operator, &format!("DELETE /v1/functions/{name}"), "");
            assert_eq!(deleted.status, 202, "{deleted:?}");
        }
    }
}

/// One half, and the rest after it.
fn churn_once(cluster: &Cluster, half: usize) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let prefix = format!("f{half}-{client}");
            scope.spawn(move || churn(&prefix, cluster.control_plane.address("http"), cluster.invoke_address()));
        }
    });
    cluster.wait_for_rest();
    assert!(cluster.held().is_empty(), "expected no sandbox: {:?}", cluster.held());
}

#[test]
fn thousands_of_functions_that_come_and_go_leave_every_part_as_it_was() {
    let cluster = Cluster::start(Plan::HOLLOW);
    let before = uses(&cluster);
    churn_once(&cluster, 0);
    let half = uses(&cluster);
    churn_once(&cluster, 1);
    // What is closed a moment later counts when it is closed.
    let after = wait_for("as many descriptors as before", || {
        let after = uses(&cluster);
        let holds =
            before.iter().zip(&after).all(|(before, after)| after.1.descriptors <= before.1.descriptors + DESCRIPTORS);
        check(holds, format!("{after:?}, before {before:?}")).map(|()| after)
    });
    eprintln!("churn of twice {} functions: {before:?}, {half:?}, {after:?}", CLIENTS * BATCHES * BATCH);
    for ((name, before), ((_, half), (_, after))) in before.iter().zip(half.iter().zip(&after)) {
        assert_eq!(after.listening, before.listening, "expected {name} to listen where it did");
        assert!(after.threads <= before.threads + 2, "expected the threads of {name} as before: {before:?}, {after:?}");
        let grown_kib = after.memory_kib.saturating_sub(half.memory_kib);
        assert!(grown_kib <= GROWTH_KIB, "expected no more memory in {name} after another half: {half:?}, {after:?}");
    }
}
