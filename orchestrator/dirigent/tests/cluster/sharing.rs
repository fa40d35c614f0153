//! Three data planes share a few functions of concurrency one, while clients hang up and parts are killed: never two
//! invocations in one sandbox, one response to each, and nothing left over soon after.

use std::{
    fs,
    ops::Range,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    invocation::Invocation,
    probe,
    wait::{check, wait_for, wait_within},
};

const FUNCTIONS: [&str; 3] = ["f", "g", "h"];
const CLIENTS: usize = 9;
const ROUNDS: usize = 40;
/// Run time of an invocation, in milliseconds.
const RUN_MS: u32 = 30;
/// At rest nothing is left over after this.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Responses of all clients together.
#[derive(Debug, Default)]
struct Seen {
    responded: AtomicUsize,
    hung_up: AtomicUsize,
    /// Connections that were refused or broke: a data plane that is killed breaks its own.
    broken: [AtomicUsize; 3],
    /// Refusals of a data plane that has just started and waits for a control plane.
    not_ready: [AtomicUsize; 3],
}

fn start() -> (Cluster, PathBuf) {
    let cluster = Cluster::start(Plan { data_planes: 3, ..Plan::PROCESS });
    let directory = cluster.directory().join("observation");
    fs::create_dir(&directory).unwrap();
    for name in FUNCTIONS {
        let mut function = probe::function(&directory, 1, 2);
        function["scale"] = json!({ "max": 2, "stable_window": "1s", "keep_alive": "60s" });
        cluster.register(name, function);
        cluster.invoke(name).assert_ok();
    }
    (cluster, directory)
}

/// One client: a third of its invocations wait to the end, the others lose patience, waiting or running.
fn invoke(client: usize, invoke_addresses: &[String], seen: &Seen) {
    for round in 0..ROUNDS {
        let invoke_address = (client + round) % invoke_addresses.len();
        let invocation = Invocation::of(FUNCTIONS[(client / 3 + round / 2) % FUNCTIONS.len()]).run_ms(RUN_MS);
        let Ok(ongoing) = invocation.begin(&invoke_addresses[invoke_address]) else {
            seen.broken[invoke_address].fetch_add(1, Ordering::Relaxed);
            // For as long as an invocation takes: a client that is refused does not come back sooner.
            thread::park_timeout(Duration::from_millis(RUN_MS.into()));
            continue;
        };
        let client_timeout = Duration::from_millis(((client * 37 + round * 53) % 200 + 1) as u64);
        let response = match round % 3 {
            0 => match ongoing.response() {
                Ok(response) => response,
                Err(_) => {
                    seen.broken[invoke_address].fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            },
            _ => match ongoing.response_within(client_timeout) {
                Some(response) => response,
                None => {
                    seen.hung_up.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            },
        };
        if response.error() == "not-ready" {
            seen.not_ready[invoke_address].fetch_add(1, Ordering::Relaxed);
            thread::park_timeout(Duration::from_millis(RUN_MS.into()));
            continue;
        }
        response.assert_ok();
        seen.responded.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs all clients, and `fault` once a third of the responses are there.
fn under_load(cluster: &mut Cluster, fault: impl FnOnce(&mut Cluster)) -> Seen {
    let invoke_addresses: Vec<String> =
        cluster.data_planes.iter().map(|part| part.address("invoke").to_owned()).collect();
    let seen = Seen::default();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (invoke_addresses, seen) = (&invoke_addresses, &seen);
            scope.spawn(move || invoke(client, invoke_addresses, seen));
        }
        wait_for("some answers", || {
            let responded = seen.responded.load(Ordering::Relaxed);
            check(responded > CLIENTS * ROUNDS / 9, responded)
        });
        fault(cluster);
    });
    cluster.wait_until_whole();
    seen
}

/// Fails when a client of one of these data planes met anything but responses.
fn assert_undisturbed(seen: &Seen, data_planes: Range<usize>) {
    for data_plane in data_planes {
        let met = [&seen.broken, &seen.not_ready].map(|counts| counts[data_plane].load(Ordering::Relaxed));
        assert_eq!(met, [0, 0], "expected answers from data plane {data_plane}: {seen:?}");
    }
}

/// Fails unless everything is as it should be once all clients are gone.
fn assert_quiescent(cluster: &Cluster, directory: &std::path::Path, seen: &Seen) {
    let begun = probe::assert_never_more_than(directory, 1) as usize;
    let responded = seen.responded.load(Ordering::Relaxed);
    assert!(begun >= responded, "expected each answer to have been run: {begun} began, {responded} answered");
    wait_within(SETTLE_TIMEOUT, "nothing to wait or run", || {
        let status = cluster.status();
        check(status["waiting"] == 0 && status["running"] == 0, &status)
    });
    cluster.wait_for_rest();
    for data_plane in &cluster.data_planes {
        for name in FUNCTIONS {
            Invocation::of(name).at(data_plane.address("invoke")).assert_ok();
        }
    }
    probe::assert_never_more_than(directory, 1);
    wait_within(SETTLE_TIMEOUT, "as many processes as sandboxes", || {
        let (processes, held) = (cluster.sandbox_processes(), cluster.held());
        check(processes.len() == held.len(), format!("{processes:?} for {held:?}"))
    });
}

/// A fault under load: clients of the data planes `undisturbed` see responses only, and nothing is left over.
fn survive(what: &str, undisturbed: Range<usize>, fault: impl FnOnce(&mut Cluster)) {
    let (mut cluster, directory) = start();
    let seen = under_load(&mut cluster, fault);
    eprintln!("{what}: {seen:?}");
    assert_undisturbed(&seen, undisturbed);
    assert_quiescent(&cluster, &directory, &seen);
}

#[test]
fn a_killed_data_plane_breaks_its_own_connections_only() {
    survive("data plane of three killed", 1..3, |cluster| {
        cluster.data_planes[0].crash();
        cluster.data_planes[0].start_again();
    });
}

#[test]
fn a_killed_control_plane_breaks_no_connection() {
    survive("control plane killed beside three data planes", 0..3, |cluster| {
        cluster.control_plane.crash();
        cluster.control_plane.start_again();
    });
}

#[test]
fn control_plane_and_data_plane_killed_together_come_back_to_the_same() {
    survive("control plane and one of three data planes killed", 1..3, |cluster| {
        cluster.control_plane.crash();
        cluster.data_planes[0].crash();
        cluster.data_planes[0].start_again();
        cluster.control_plane.start_again();
    });
}
