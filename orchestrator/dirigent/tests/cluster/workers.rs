//! Workers that die, fall silent and come back: their functions run elsewhere, and nothing new is sent to them.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, Plan},
    http::HttpResponse,
    traffic::{Noted, Traffic},
    wait::{check, wait_for},
};

/// From then on nothing new may be sent to a dead worker.
const NOTICED: Duration = Duration::from_secs(2);
/// Short, so that a test sees a node die.
const SOON_DEAD: &str = "dead_after = '4s'";
/// Enough that both workers have some of them.
const FUNCTIONS: [&str; 8] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"];

/// A cluster with a sandbox for each function, and traffic to all of them.
fn start() -> (Cluster, Traffic) {
    let cluster = Cluster::start(Plan { health: SOON_DEAD, ..Plan::HOLLOW });
    for name in FUNCTIONS {
        cluster.register(name, json!({}));
    }
    let mut nodes: Vec<String> = FUNCTIONS.iter().map(|name| machine(cluster.invoke(name).assert_ok())).collect();
    nodes.sort_unstable();
    nodes.dedup();
    assert_eq!(nodes.len(), 2, "expected functions on both workers");
    let traffic = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    wait_for("traffic", || check(traffic.count() > 100, traffic.count()));
    (cluster, traffic)
}

/// The node that responded.
fn machine(response: &HttpResponse) -> String {
    response.json()["MachineName"].as_str().unwrap().to_owned()
}

/// Fails unless every invocation has one response, which is the function's or an explicit failure; how many failed.
fn count_failures(noted: &[Noted]) -> usize {
    let failed = |note: &&Noted| match &note.outcome {
        Ok(response) if response.status == 200 => false,
        Ok(response) => {
            assert!(
                matches!((response.status, response.error()), (502, "upstream") | (504, "timeout" | "queue-deadline")),
                "expected the answer or an explicit failure, found {note:?}"
            );
            true
        }
        Err(error) => panic!("expected an answer: {error} for {}", note.function),
    };
    noted.iter().filter(failed).count()
}

/// Fails unless all that was sent from `since` on was answered by the other worker at the first attempt, each function.
fn assert_elsewhere(noted: &[Noted], since: Instant) {
    for name in FUNCTIONS {
        let late: Vec<_> = noted.iter().filter(|note| note.function == name && note.sent >= since).collect();
        assert!(!late.is_empty(), "expected traffic to {name} after its worker was noticed");
        for note in late {
            let response = note.outcome.as_ref().unwrap();
            response.assert_ok();
            assert_eq!(machine(response), "worker-1-0", "expected {name} on the living worker: {response:?}");
            assert_eq!(response.attempts(), 1, "expected nothing to be sent to the dead worker any more: {response:?}");
        }
    }
}

#[test]
fn the_functions_of_a_killed_worker_run_elsewhere() {
    let (mut cluster, traffic) = start();
    cluster.workers[0].crash();
    let killed = Instant::now();
    wait_for("its node to be suspect", || {
        let state = cluster.node_state("worker-0");
        check(state == "suspect", state)
    });
    wait_for("traffic after the worker should be noticed", || {
        check(killed.elapsed() > NOTICED + Duration::from_secs(1), traffic.count())
    });
    let noted = traffic.stop();
    let failures = count_failures(&noted);
    assert!(failures <= FUNCTIONS.len(), "expected at most what was in flight to fail, found {failures}");
    assert_elsewhere(&noted, killed + NOTICED);
    wait_for("its node to be dead", || {
        let state = cluster.node_state("worker-0");
        check(state == "dead", state)
    });
    cluster.wait_for_rest();

    cluster.workers[0].start_again();
    wait_for("its node to be ready again", || {
        let state = cluster.node_state("worker-0");
        check(state == "ready", state)
    });
    for name in FUNCTIONS {
        cluster.invoke(name).assert_ok();
    }
    cluster.wait_for_rest();
}

#[test]
fn an_unresponsive_worker_gets_nothing_new_and_is_taken_back() {
    let (cluster, traffic) = start();
    cluster.workers[0].send(Signal::SIGSTOP);
    let stopped = Instant::now();
    wait_for("its node to be suspect", || {
        let state = cluster.node_state("worker-0");
        check(state == "suspect", state)
    });
    // Clients whose invocation was in flight wait until the node is dead; then all of them go on.
    wait_for("its node to be dead", || {
        let state = cluster.node_state("worker-0");
        check(state == "dead", state)
    });
    let dead = traffic.count();
    wait_for("traffic to all functions", || check(traffic.count() > dead + 200, traffic.count()));
    let noted = traffic.stop();
    count_failures(&noted);
    assert_elsewhere(&noted, stopped + NOTICED);

    cluster.workers[0].send(Signal::SIGCONT);
    wait_for("its node to be ready again", || {
        let state = cluster.node_state("worker-0");
        check(state == "ready", state)
    });
    for name in FUNCTIONS {
        cluster.invoke(name).assert_ok();
    }
    cluster.wait_for_rest();
}
