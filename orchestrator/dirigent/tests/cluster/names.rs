//! Two workers or data planes of one name: one that stands still keeps its name and its sandboxes, and one that has lost
//! its name to another process does not let its sandboxes run on next to those of the other, or does not use them.

use std::{collections::BTreeSet, fs};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    daemon::Daemon,
    invocation::Invocation,
    process,
    wait::{check, wait_for},
};

/// Its silence is noticed long before its stream is ended, which takes 3 s at least.
const ONE_WORKER: Plan = Plan { workers: 1, health: "suspect_after = '500ms'", ..Plan::PROCESS };

/// A cluster with one sandbox, and the processes of it.
fn with_a_sandbox() -> (Cluster, BTreeSet<u32>) {
    let cluster = Cluster::start(ONE_WORKER);
    cluster.register("f", json!({ "scale": { "min": 1 } }));
    cluster.invoke("f").assert_ok();
    let processes = cluster.sandbox_processes().into_iter().collect();
    (cluster, processes)
}

fn log_of(cluster: &Cluster, part: &str) -> String {
    fs::read_to_string(cluster.directory().join(part).join("log")).unwrap()
}

/// The stream of one that stands still ends in the end.
fn wait_for_admission(cluster: &Cluster, part: &str) {
    wait_for(&format!("{part} to be let in"), || {
        let log = log_of(cluster, part);
        check(log.contains("connected to the control plane"), log)
    });
}

fn wait_for_refusal(cluster: &Cluster, part: &str) {
    wait_for(&format!("{part} to be refused for its name"), || {
        let log = log_of(cluster, part);
        check(log.contains("another worker of the name \"worker-0\" is connected"), log)
    });
}

fn end(mut daemon: Daemon) {
    assert!(daemon.end(Signal::SIGTERM).success());
}

#[test]
fn a_worker_that_stood_still_keeps_its_name_and_its_sandboxes() {
    let (cluster, processes) = with_a_sandbox();
    cluster.workers[0].send(Signal::SIGSTOP);
    cluster.wait_for_node("worker-0", "suspect");
    let namesake = cluster.start_namesake(ONE_WORKER);
    wait_for_refusal(&cluster, "namesake");
    cluster.workers[0].send(Signal::SIGCONT);
    cluster.wait_for_node("worker-0", "ready");
    cluster.invoke("f").assert_ok();
    assert_eq!(cluster.sandbox_processes().into_iter().collect::<BTreeSet<_>>(), processes);
    end(namesake);
    let refused = log_of(&cluster, "control-plane");
    let lines: Vec<_> = refused.lines().filter(|line| line.contains("another worker of the name")).collect();
    assert_eq!(lines.len(), 1, "it asks again and again, and one line says so: {lines:?}");
}

#[test]
fn sandboxes_of_a_worker_whose_name_another_one_has_end() {
    let (mut cluster, processes) = with_a_sandbox();
    cluster.workers[0].send(Signal::SIGSTOP);
    let namesake = cluster.start_namesake(ONE_WORKER);
    wait_for_admission(&cluster, "namesake");
    cluster.invoke("f").assert_ok();
    cluster.workers[0].send(Signal::SIGCONT);
    wait_for_refusal(&cluster, "worker-0");
    let processes: Vec<_> = processes.into_iter().collect();
    wait_for("its sandboxes to end", || {
        let alive = process::alive(&processes);
        check(alive.is_empty(), format!("{alive:?}"))
    });
    cluster.invoke("f").assert_ok();
    assert!(cluster.workers[0].end(Signal::SIGTERM).success());
    end(namesake);
}

#[test]
fn sandboxes_that_a_data_plane_lost_with_its_name_are_used_by_it_no_more() {
    let (mut cluster, _) = with_a_sandbox();
    let old = cluster.invoke_address().to_owned();
    cluster.data_planes[0].send(Signal::SIGSTOP);
    let namesake = cluster.start_data_plane_namesake();
    wait_for_admission(&cluster, "namesake");
    Invocation::of("f").at(namesake.address("invoke")).assert_ok();
    cluster.data_planes[0].send(Signal::SIGCONT);
    // What it had was ended when the other one came: its addresses may be those of other functions.
    wait_for("it to know of no function any more", || {
        let response = Invocation::of("f").at(&old);
        check(response.header("x-dirigent-error") == Some("not-ready"), format!("{response:?}"))
    });
    Invocation::of("f").at(namesake.address("invoke")).assert_ok();
    end(namesake);
    wait_for("it to be let in as a new one", || {
        let response = Invocation::of("f").at(&old);
        check(response.status == 200, format!("{response:?}"))
    });
    assert!(cluster.data_planes[0].end(Signal::SIGTERM).success());
}
