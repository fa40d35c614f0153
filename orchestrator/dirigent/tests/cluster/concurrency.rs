//! A sandbox never runs more invocations at once than its function's concurrency: under load, when clients hang up, over
//! several data planes, and when a data plane dies. The sandboxes themselves are the probes.

use std::{fs, path::PathBuf, sync::Mutex, thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    http::HttpResponse,
    invocation::Invocation,
    probe,
    wait::{check, wait_for},
};

/// Starts a cluster with a function `f` whose sandboxes report to the folder given.
fn start(plan: Plan, concurrency: u32, max: u32) -> (Cluster, PathBuf) {
    let cluster = Cluster::start(plan);
    let directory = cluster.directory().join("observation");
    fs::create_dir(&directory).unwrap();
    cluster.register("f", probe::function(&directory, concurrency, max));
    (cluster, directory)
}

/// Sends `count` invocations at once, alternating between the data planes; returns every response.
fn at_once(cluster: &Cluster, count: usize, run_ms: u32) -> Vec<HttpResponse> {
    thread::scope(|scope| {
        let invoke_addresses = cluster.data_planes.iter().map(|data_plane| data_plane.address("invoke")).cycle();
        let invoke = |invoke_address| scope.spawn(move || Invocation::of("f").run_ms(run_ms).at(invoke_address));
        let clients: Vec<_> = invoke_addresses.take(count).map(invoke).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn assert_all_ok(responses: &[HttpResponse]) {
    for response in responses {
        response.assert_ok();
    }
}

#[test]
fn hundreds_at_once_share_few_sandboxes_one_at_a_time() {
    let (cluster, directory) = start(Plan::PROCESS, 1, 4);
    let responses = at_once(&cluster, 300, 20);
    assert_all_ok(&responses);
    assert_eq!(probe::assert_never_more_than(&directory, 1), 300, "expected each to run exactly once");
    let mut sandboxes: Vec<_> = responses.iter().map(HttpResponse::sandbox).collect();
    sandboxes.sort_unstable();
    sandboxes.dedup();
    assert!((1..=4).contains(&sandboxes.len()), "expected at most scale.max sandboxes: {sandboxes:?}");
}

#[test]
fn several_slots_are_all_used_and_not_exceeded() {
    let (cluster, directory) = start(Plan::PROCESS, 4, 2);
    assert_all_ok(&at_once(&cluster, 200, 20));
    probe::assert_never_more_than(&directory, 4);
    let max_running = probe::observations(&directory).into_iter().map(|observation| observation.max_running).max();
    assert_eq!(max_running, Some(4), "expected every slot of a sandbox to be used under this load");
}

#[test]
fn a_slot_stays_taken_when_its_client_hangs_up() {
    let (cluster, directory) = start(Plan::PROCESS, 1, 2);
    let responded = Mutex::new(0);
    thread::scope(|scope| {
        for client in 0..12_u64 {
            let (invoke_address, responded) = (cluster.invoke_address(), &responded);
            scope.spawn(move || {
                let invocation = Invocation::of("f").run_ms(60);
                for round in 0..8 {
                    // Some wait to the end; the others lose patience in the queue, or while they run.
                    let client_timeout = Duration::from_millis((client * 37 + round * 53) % 400 + 1);
                    let response = match client % 3 {
                        0 => Some(invocation.at(invoke_address)),
                        _ => invocation.begin(invoke_address).unwrap().response_within(client_timeout),
                    };
                    if let Some(response) = response {
                        response.assert_ok();
                        *responded.lock().unwrap() += 1;
                    }
                }
            });
        }
    });
    let begun = probe::assert_never_more_than(&directory, 1);
    let responded = *responded.lock().unwrap();
    assert!(begun > responded, "expected some to be hung up on while they ran: {begun} began, {responded} answered");
    cluster.wait_for_demand(0, "f", 0, 0);
    cluster.invoke("f").assert_ok();
    probe::assert_never_more_than(&directory, 1);
}

#[test]
fn a_sandbox_that_does_not_end_a_cancelled_invocation_is_retired() {
    let (cluster, directory) = start(Plan::PROCESS, 1, 1);
    let first = cluster.invoke("f").assert_ok().sandbox().to_owned();
    let client_timeout = Duration::from_millis(100);
    let hung_up =
        Invocation::of("f").run_ms(300_000).begin(cluster.invoke_address()).unwrap().response_within(client_timeout);
    assert!(hung_up.is_none(), "expected no answer yet");
    let next = cluster.invoke("f");
    assert_ne!(next.assert_ok().sandbox(), first, "expected the sandbox that still runs it to be left alone");
    probe::assert_never_more_than(&directory, 1);
    wait_for("the retired sandbox to be gone", || {
        let held = cluster.held();
        check(held.len() == 1, format!("{held:?}"))
    });
}

#[test]
fn two_data_planes_together_keep_to_one_at_a_time() {
    let (cluster, directory) = start(Plan { data_planes: 2, ..Plan::PROCESS }, 1, 3);
    assert_all_ok(&at_once(&cluster, 120, 20));
    assert_eq!(probe::assert_never_more_than(&directory, 1), 120, "expected each to run exactly once");
}

#[test]
fn two_data_planes_alternate_with_one_slot() {
    let (cluster, directory) = start(Plan { data_planes: 2, ..Plan::PROCESS }, 1, 1);
    assert_all_ok(&at_once(&cluster, 30, 10));
    assert_eq!(probe::assert_never_more_than(&directory, 1), 30, "expected each to run exactly once");
}

#[test]
fn an_idle_slot_is_recalled_before_a_second_sandbox_is_made() {
    let cluster = Cluster::start(Plan { data_planes: 2, ..Plan::HOLLOW });
    cluster.register("f", json!({}));
    let first = cluster.invoke("f").assert_ok().sandbox().to_owned();
    for turn in 0..8 {
        let invoke_address = cluster.data_planes[(turn + 1) % 2].address("invoke");
        wait_for("the control plane to know that nothing runs", || {
            let shown = cluster.show("f");
            check(shown["running"] == 0 && shown["waiting"] == 0, shown)
        });
        let response = Invocation::of("f").at(invoke_address);
        assert_eq!(
            response.assert_ok().sandbox(),
            first,
            "turn {turn}: expected the idle sandbox to be granted: {response:?}"
        );
    }
    assert_eq!(cluster.held().len(), 1, "expected one sandbox: {:?}", cluster.held());
}

#[test]
fn two_data_planes_alternate_with_the_only_sandbox_without_cold_starts() {
    let cluster = Cluster::start(Plan { data_planes: 2, ..Plan::HOLLOW });
    cluster.register("f", json!({ "scale": { "max": 1 } }));
    let first = cluster.invoke("f").assert_ok().sandbox().to_owned();
    for turn in 0..10 {
        let response = Invocation::of("f").at(cluster.data_planes[(turn + 1) % 2].address("invoke"));
        assert_eq!(response.assert_ok().sandbox(), first, "turn {turn}: expected the only sandbox: {response:?}");
        assert_eq!(response.header("x-dirigent-cold"), Some("0"), "turn {turn}: it is an old one: {response:?}");
    }
}

#[test]
fn what_a_dead_data_plane_began_is_not_joined_by_a_second_invocation() {
    let (mut cluster, directory) = start(Plan::PROCESS, 1, 2);
    let ongoing = Invocation::of("f").run_ms(5000).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    cluster.data_planes[0].crash();
    assert!(ongoing.response().is_err(), "expected the connection to break with the data plane");
    cluster.data_planes[0].start_again();
    cluster.wait_until_whole();
    cluster.invoke("f").assert_ok();
    probe::assert_never_more_than(&directory, 1);
}

#[test]
fn what_runs_on_a_node_given_up_is_not_joined_when_the_node_returns() {
    let (cluster, directory) = start(Plan { workers: 1, health: "dead_after = '3s'", ..Plan::PROCESS }, 1, 1);
    let ongoing = Invocation::of("f").post().run_ms(60_000).begin(cluster.invoke_address()).unwrap();
    cluster.wait_for_demand(0, "f", 0, 1);
    let node_is = |expected: &str| {
        wait_for(&format!("its node to be {expected}"), || {
            let state = cluster.node_state("worker-0");
            check(state == expected, state)
        });
    };
    // The worker falls silent; its sandbox is a process of its own and goes on.
    cluster.workers[0].send(Signal::SIGSTOP);
    node_is("dead");
    ongoing.response().unwrap().assert_refused(502, "upstream");
    cluster.workers[0].send(Signal::SIGCONT);
    node_is("ready");
    cluster.invoke("f").assert_ok();
    probe::assert_never_more_than(&directory, 1);
    cluster.wait_for_rest();
}
