//! The command log is lost: the cluster that begins anew gives out the same numbers again, and nobody takes what is left
//! of the old one for its own.

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Plan, number},
    wait::{look, wait_for},
    witness,
};

/// A function of which every sandbox testifies in `directory`.
fn function(directory: &Path) -> Value {
    fs::create_dir(directory).unwrap();
    let mut fields = witness::function(directory, 1, 2);
    fields["queue"] = json!({ "deadline": "1s" });
    fields
}

/// Invocations that began in the sandboxes that testify in `directory`.
fn begun(directory: &Path) -> u32 {
    witness::testimonies(directory).iter().map(|testimony| testimony.begun).sum()
}

#[test]
fn after_a_lost_log_no_function_is_answered_with_the_code_of_another() {
    let mut cluster = Cluster::start(Plan { workers: 1, ..Plan::PROCESS });
    let [lost, anew] = ["lost", "anew"].map(|name| cluster.directory().join(name));
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
        look(data_planes.as_array().unwrap().len() == 1, data_planes)
    });
    // Numbers are given out one after the other: these come before the one that the lost function had.
    (0..id).map(|number| format!("f{number}")).find(|name| {
        cluster.register(name, json!({}));
        number(&cluster.show(name)["id"]) == id - 1
    });
    cluster.register("anew", function(&anew));
    assert_eq!(number(&cluster.show("anew")["id"]), id, "expected the numbers to be given out again");
    // The data plane goes over to the new cluster; the worker holds a sandbox of the old one, and is refused.
    wait_for("the data plane to know the functions of the new cluster only", || {
        let (left, new) = (cluster.invoke("lost"), cluster.invoke("anew"));
        for answer in [&left, &new] {
            assert_ne!(answer.status, 200, "expected nobody to answer: {answer:?}");
        }
        let seen = (left.status, left.error(), new.status, new.error());
        look(seen == (404, "unknown-function", 504, "queue-deadline"), format!("{seen:?}"))
    });
    assert_eq!(number(&cluster.status()["nodes_ready"]), 0, "{}", cluster.status());

    assert!(cluster.workers[0].end(Signal::SIGTERM).success());
    cluster.workers[0].start_again();
    cluster.wait_until_whole();
    cluster.invoke("anew").assert_ok();
    cluster.invoke("lost").assert_refused(404, "unknown-function");
    assert_eq!((begun(&lost), begun(&anew)), (before, 1), "expected only its own sandbox to have been invoked");
    cluster.wait_for_rest();
}
