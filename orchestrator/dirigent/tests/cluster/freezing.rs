//! Parts that stop for a while, by a signal, and go on: a worker for less than it takes to be suspected and for more, one
//! whose sandboxes go on without it, a data plane while functions come and go through another one, and the control plane.

use std::{collections::BTreeSet, fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, Plan},
    invocation::Invocation,
    probe, process,
    traffic::{Traffic, assert_no_failure, failures},
    wait::{check, wait_for},
};

/// Enough that both workers have some of them.
const FUNCTIONS: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];
/// Well below the silence that makes a worker suspect, which is 1.5 s.
const PAUSE: Duration = Duration::from_millis(700);
/// By then workers have left a control plane that does not respond, which takes 3 s.
const GIVEN_UP: Duration = Duration::from_millis(4500);
/// The responses that a client may get whose invocation was in a sandbox that failed.
const EXPLICIT: [&str; 2] = ["502 upstream", "504 timeout"];
/// Longer than the silence after which a worker is dead, which is 10 s.
const LONG: Duration = Duration::from_secs(12);
/// Functions that come and go while a data plane stands still.
const CHANGES: usize = 150;
/// Bound on the control plane's additional memory: far above what two data planes' state of them takes, far below what
/// a message for each change would.
const GROWTH_KIB: u64 = 16 * 1024;
/// A stream whose other side stands still is ended by then: a ping each 2 s, unanswered for 3 s, and some slack.
const STREAM_ENDS: Duration = Duration::from_secs(10);

/// A cluster of modelled sandboxes with one for each function.
fn start() -> Cluster {
    let cluster = Cluster::start(Plan::HOLLOW);
    for name in FUNCTIONS {
        cluster.register(name, json!({ "scale": { "stable_window": "1s", "keep_alive": "60s" } }));
        cluster.invoke(name).assert_ok();
    }
    cluster
}

#[test]
fn a_worker_that_pauses_for_less_than_suspicion_takes_costs_nobody_an_invocation() {
    let cluster = start();
    let traffic = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    traffic.wait_for_more(100);
    cluster.workers[0].send(Signal::SIGSTOP);
    let paused = Instant::now();
    wait_for("the pause to be over", || check(paused.elapsed() >= PAUSE, traffic.count()));
    cluster.workers[0].send(Signal::SIGCONT);
    traffic.wait_for_more(300);
    assert_no_failure("worker paused for 0.7 s", &traffic.stop());
    cluster.wait_for_rest();
}

#[test]
fn a_worker_that_is_back_before_it_is_dead_has_its_sandboxes_adopted() {
    let cluster = start();
    let before: Vec<_> = FUNCTIONS.iter().map(|name| cluster.ready_sandboxes(name)[0].clone()).collect();
    let traffic = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    traffic.wait_for_more(100);
    cluster.workers[0].send(Signal::SIGSTOP);
    cluster.wait_for_node("worker-0", "suspect");
    traffic.wait_for_more(300);
    for (name, held) in FUNCTIONS.iter().zip(&before) {
        assert!(!cluster.show(name)["endpoints"].as_array().unwrap().is_empty(), "{name} had {held}");
    }
    cluster.workers[0].send(Signal::SIGCONT);
    cluster.wait_for_node("worker-0", "ready");
    traffic.wait_for_more(300);
    // What runs there was only late.
    assert_no_failure("worker frozen for some 2 s", &traffic.stop());
    // Its sandboxes were not recreated; what was made meanwhile is surplus, and the longest idle goes.
    wait_for("one sandbox of each function", || {
        let surplus: Vec<_> = FUNCTIONS.iter().filter(|name| cluster.ready_sandboxes(name).len() != 1).collect();
        check(surplus.is_empty(), format!("{surplus:?}"))
    });
    cluster.wait_for_rest();
}

#[test]
fn when_all_workers_stand_still_together_nothing_is_replaced_and_the_same_sandboxes_serve() {
    let cluster = Cluster::start(Plan::PROCESS);
    for name in FUNCTIONS {
        cluster.register(name, json!({ "scale": { "keep_alive": "120s" } }));
        cluster.invoke(name).assert_ok();
    }
    let sandboxes =
        || -> BTreeSet<String> { FUNCTIONS.iter().flat_map(|name| cluster.ready_sandboxes(name)).collect() };
    let before = sandboxes();
    let traffic = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    traffic.wait_for_more(100);
    cluster.workers.iter().for_each(|worker| worker.send(Signal::SIGSTOP));
    let stopped = Instant::now();
    wait_for("twelve seconds to pass", || check(stopped.elapsed() >= LONG, traffic.count()));
    let states = ["worker-0", "worker-1"].map(|worker| cluster.node_state(worker));
    assert_eq!(states, ["ready", "ready"], "expected the control plane to suspect itself");
    cluster.workers.iter().for_each(|worker| worker.send(Signal::SIGCONT));
    traffic.wait_for_more(300);
    let noted = traffic.stop();
    assert_no_failure("both workers frozen for 12 s, their sandboxes are processes", &noted);
    for note in &noted {
        let sandbox = note.outcome.as_ref().unwrap().sandbox();
        assert!(before.contains(sandbox), "expected the same sandboxes to serve: {note:?}");
    }
    assert_eq!(sandboxes(), before, "expected nothing to be replaced");
    cluster.wait_for_rest();
}

#[test]
fn what_goes_on_in_the_sandboxes_of_a_frozen_worker_is_never_joined() {
    let cluster = Cluster::start(Plan { data_planes: 2, health: "dead_after = '3s'", ..Plan::PROCESS });
    let directory = cluster.directory().join("observation");
    fs::create_dir(&directory).unwrap();
    for name in ["f", "g"] {
        cluster.register(name, probe::function(&directory, 1, 4));
    }
    let clients = ["f", "f", "f", "g", "g", "g"];
    let traffic = [0, 1].map(|number| Traffic::start(cluster.data_planes[number].address("invoke"), &clients, 20));
    traffic[0].wait_for_more(100);
    cluster.workers[0].send(Signal::SIGSTOP);
    cluster.wait_for_node("worker-0", "dead");
    traffic.iter().for_each(|traffic| traffic.wait_for_more(100));
    cluster.workers[0].send(Signal::SIGCONT);
    cluster.wait_for_node("worker-0", "ready");
    traffic.iter().for_each(|traffic| traffic.wait_for_more(100));
    for traffic in traffic {
        let seen = failures("worker frozen until it is dead, its sandboxes are processes", &traffic.stop());
        let other: Vec<_> = seen.keys().filter(|failure| !EXPLICIT.contains(&failure.as_str())).collect();
        assert!(other.is_empty(), "expected answers and explicit failures, found {other:?}");
    }
    probe::assert_never_more_than(&directory, 1);
    cluster.wait_for_rest();
    wait_for("as many processes as sandboxes", || {
        let (processes, held) = (cluster.sandbox_processes(), cluster.held());
        check(processes.len() == held.len(), format!("{processes:?} for {held:?}"))
    });
}

#[test]
fn a_data_plane_that_stands_still_slows_nobody_down_and_catches_up() {
    let cluster = Cluster::start(Plan { data_planes: 2, ..Plan::HOLLOW });
    cluster.register("warm", json!({}));
    // Its only sandbox is granted to the one that will stand still.
    cluster.register("granted", json!({}));
    cluster.invoke("granted").assert_ok();
    let other = cluster.data_planes[1].address("invoke").to_owned();
    Invocation::of("warm").at(&other).assert_ok();
    wait_for("the control plane to know that nothing runs", || {
        let shown = cluster.show("granted");
        check(shown["running"] == 0 && shown["waiting"] == 0, shown)
    });
    let before_kib = process::memory_kib(cluster.control_plane.pid());
    cluster.data_planes[0].send(Signal::SIGSTOP);
    let stopped = Instant::now();
    let traffic = Traffic::start(&other, &["warm", "granted"], 20);
    let (mut longest, mut held_up) = (Duration::ZERO, 0);
    for number in 0..CHANGES {
        let name = format!("f{number}");
        let requested = Instant::now();
        cluster.register(&name, json!({}));
        // A registration waits for the data planes that are connected, for one second at most.
        held_up += usize::from(requested.elapsed() > Duration::from_millis(900));
        let response = Invocation::of(&name).at(&other);
        longest = longest.max(response.assert_ok().took);
        if number % 3 > 0 {
            cluster.delete(&name);
        }
    }
    let took = stopped.elapsed();
    eprintln!(
        "data plane frozen: {CHANGES} functions within {took:?}, {held_up} held up, longest cold start {longest:?}"
    );
    wait_for("the control plane to end its stream", || {
        let status = cluster.status();
        assert!(stopped.elapsed() < took + STREAM_ENDS, "expected the stream to be ended: {status}");
        check(status["data_planes"].as_array().unwrap().len() == 1, &status)
    });
    let noted = traffic.stop();
    assert_no_failure("other data plane beside a frozen one", &noted);
    let slowest = noted.iter().map(|note| note.outcome.as_ref().unwrap().took).max().unwrap().max(longest);
    assert!(slowest < Duration::from_secs(2), "expected nobody to wait for the frozen data plane, found {slowest:?}");
    let grown_kib = process::memory_kib(cluster.control_plane.pid()).saturating_sub(before_kib);
    eprintln!("data plane frozen: the control plane's memory grew by {grown_kib} KiB");
    assert!(grown_kib < GROWTH_KIB, "expected the control plane's memory to be bounded, it grew by {grown_kib} KiB");

    cluster.data_planes[0].send(Signal::SIGCONT);
    cluster.wait_until_whole();
    cluster.invoke("warm").assert_ok();
    cluster.invoke("f3").assert_ok();
    wait_for("the functions deleted meanwhile to be unknown", || {
        let response = cluster.invoke("f1");
        check((response.status, response.error()) == (404, "unknown-function"), format!("{response:?}"))
    });
    cluster.wait_for_rest();
}

#[test]
fn a_control_plane_that_stands_still_until_it_is_given_up_is_found_again() {
    let cluster = start();
    let before: Vec<_> = FUNCTIONS.iter().map(|name| cluster.ready_sandboxes(name)).collect();
    let traffic = Traffic::start(cluster.invoke_address(), &FUNCTIONS, 5);
    traffic.wait_for_more(100);
    cluster.control_plane.send(Signal::SIGSTOP);
    let stopped = Instant::now();
    wait_for("its workers to give it up", || check(stopped.elapsed() >= GIVEN_UP, traffic.count()));
    cluster.control_plane.send(Signal::SIGCONT);
    // It has received nothing for as long, and must not take that for their fault.
    cluster.wait_until_whole();
    cluster.register("afterwards", json!({}));
    cluster.invoke("afterwards").assert_ok();
    traffic.wait_for_more(300);
    assert_no_failure("control plane frozen for 4.5 s", &traffic.stop());
    let after: Vec<_> = FUNCTIONS.iter().map(|name| cluster.ready_sandboxes(name)).collect();
    assert_eq!(after, before, "the sandboxes are the same");
    cluster.wait_for_rest();
}
