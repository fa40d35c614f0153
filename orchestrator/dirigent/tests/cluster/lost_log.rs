//! The command log is lost, or an older copy of it is put back: the control plane gives out the same numbers again, and
//! nobody takes what is left from before for its own.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Plan, number},
    probe,
    wait::{check, wait_for},
};

/// A function of which every sandbox testifies in `directory`.
fn function(directory: &Path) -> Value {
    fs::create_dir(directory).unwrap();
    let mut fields = probe::function(directory, 1, 2);
    fields["queue"] = json!({ "deadline": "1s" });
    fields
}

/// Invocations that began in the sandboxes that report to `directory`.
fn begun(directory: &Path) -> u32 {
    probe::observations(directory).iter().map(|observation| observation.begun).sum()
}

#[test]
fn after_a_lost_log_no_function_runs_the_code_of_another() {
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::PROCESS });
    let [lost, recreated] = ["lost", "anew"].map(|name| cluster.directory().join(name));
    (0..8).for_each(|number| cluster.register(&format!("before{number}"), json!({})));
    cluster.register("lost", function(&lost));
    cluster.invoke("lost").assert_ok();
    let (id, before) = (number(&cluster.show("lost")["id"]), begun(&lost));
    assert_eq!(before, 1);

    cluster.control_plane.crash();
    fs::remove_file(cluster.directory().join("control-plane/commands.redb")).unwrap();
    cluster.control_plane.start_again();
    wait_for("the data plane in the new cluster", || {
        let data_planes = cluster.status()["data_planes"].clone();
        check(data_planes.as_array().unwrap().len() == 1, data_planes)
    });
    // Numbers are given out one after the other: these come before the one that the lost function had.
    (0..id).map(|number| format!("f{number}")).find(|name| {
        cluster.register(name, json!({}));
        number(&cluster.show(name)["id"]) == id - 1
    });
    cluster.register("anew", function(&recreated));
    assert_eq!(number(&cluster.show("anew")["id"]), id, "expected the numbers to be given out again");
    // The data plane goes over to the new cluster; the worker holds a sandbox of the old one, and is refused.
    wait_for("the data plane to know the functions of the new cluster only", || {
        let (left, new) = (cluster.invoke("lost"), cluster.invoke("anew"));
        for response in [&left, &new] {
            assert_ne!(response.status, 200, "expected nobody to answer: {response:?}");
        }
        let seen = (left.status, left.error(), new.status, new.error());
        check(seen == (404, "unknown-function", 504, "queue-deadline"), format!("{seen:?}"))
    });
    assert_eq!(number(&cluster.status()["nodes_ready"]), 0, "{}", cluster.status());

    assert!(cluster.workers[0].end(Signal::SIGTERM).success());
    cluster.workers[0].start_again();
    cluster.wait_until_whole();
    cluster.invoke("anew").assert_ok();
    cluster.invoke("lost").assert_refused(404, "unknown-function");
    assert_eq!((begun(&lost), begun(&recreated)), (before, 1), "expected only its own sandbox to have been invoked");
    cluster.wait_for_rest();
}

/// Makes a copy of the log, starts the control plane so many times, registers `lost` and invokes it, and puts the copy back
/// while the worker stands still. The id that `lost` had.
fn set_back(cluster: &mut Cluster, lost: &Path, starts: u32) -> usize {
    let log = cluster.directory().join("control-plane/commands.redb");
    let copy = cluster.directory().join("copy");
    cluster.register("kept", json!({}));
    fs::copy(&log, &copy).unwrap();
    // The epoch that begins when the copy is back, and the commands by which the data plane is removed and put again, take
    // their numbers.
    (0..4).for_each(|number| cluster.register(&format!("before{number}"), json!({})));
    for _ in 0..starts {
        cluster.control_plane.crash();
        cluster.control_plane.start_again();
        cluster.wait_until_whole();
    }
    cluster.register("lost", function(lost));
    cluster.invoke("lost").assert_ok();
    let id = number(&cluster.show("lost")["id"]);

    cluster.workers[0].send(Signal::SIGSTOP);
    cluster.control_plane.crash();
    fs::copy(&copy, &log).unwrap();
    cluster.control_plane.start_again();
    wait_for("the data plane to begin anew", || {
        let data_planes = cluster.status()["data_planes"].clone();
        check(data_planes.as_array().unwrap().len() == 1, data_planes)
    });
    id
}

/// Registers `anew` under the id that another function had.
fn register_as(cluster: &Cluster, id: usize, recreated: &Path) {
    // Numbers are given out one after the other: these come before the id.
    (0..id).map(|number| format!("filler{number}")).find(|name| {
        cluster.register(name, json!({}));
        number(&cluster.show(name)["id"]) == id - 1
    });
    cluster.register("anew", function(recreated));
    assert_eq!(number(&cluster.show("anew")["id"]), id, "expected the number to be given out again");
}

/// The log of a component.
fn log_of(cluster: &Cluster, part: &str) -> String {
    fs::read_to_string(cluster.directory().join(part).join("log")).unwrap()
}

#[test]
fn after_an_older_copy_of_the_log_is_restored_no_function_runs_the_code_of_another() {
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::PROCESS });
    let [lost, recreated] = ["lost", "anew"].map(|name| cluster.directory().join(name));
    let id = set_back(&mut cluster, &lost, 0);
    register_as(&cluster, id, &recreated);
    cluster.workers[0].send(Signal::SIGCONT);
    cluster.wait_until_whole();
    cluster.invoke("anew").assert_ok();
    cluster.invoke("lost").assert_refused(404, "unknown-function");
    assert_eq!((begun(&lost), begun(&recreated)), (1, 1), "expected only its own sandbox to have been invoked");
    for (part, expected) in [
        ("control-plane", "it holds sandboxes of commands that this log does not have"),
        ("control-plane", "the log was set back to an older copy or has lost its end"),
        ("data-plane-0", "the control plane knows nothing of what is known here, which is dropped"),
    ] {
        let log = log_of(&cluster, part);
        assert!(log.contains(expected), "expected {part} to say {expected:?}: {log}");
    }
    cluster.wait_for_rest();
}

#[test]
fn a_component_of_an_epoch_that_the_copy_of_the_log_lacks_is_refused_with_the_reason() {
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::PROCESS });
    let [lost, recreated] = ["lost", "anew"].map(|name| cluster.directory().join(name));
    let id = set_back(&mut cluster, &lost, 1);
    register_as(&cluster, id, &recreated);
    cluster.workers[0].send(Signal::SIGCONT);
    wait_for("the worker to be told why it is refused", || {
        let log = log_of(&cluster, "worker-0");
        check(log.contains("the log was set back to an older copy") && log.contains("start it anew"), log)
    });
    cluster.invoke("anew").assert_refused(504, "queue-deadline");
    assert!(cluster.workers[0].end(Signal::SIGTERM).success());
    cluster.workers[0].start_again();
    cluster.wait_until_whole();
    cluster.invoke("anew").assert_ok();
    assert_eq!((begun(&lost), begun(&recreated)), (1, 1), "expected only its own sandbox to have been invoked");
    cluster.wait_for_rest();
}
