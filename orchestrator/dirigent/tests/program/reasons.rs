//! Reasons of a function's failures, as the commands show them that a user types first.

use serde_json::Value;

use crate::cluster::{Cluster, dirigent, wait_for};

/// A cluster whose workers run processes.
fn cluster() -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("process", dir.path());
    (dir, cluster)
}

fn show(cluster: &Cluster, name: &str) -> Value {
    serde_json::from_str(&cluster.operator_ok(&["function", "show", name, "--format", "json"])).unwrap()
}

/// Standard error of an invocation that must fail.
fn invoke_fails(cluster: &Cluster, name: &str) -> String {
    let invoked = cluster.invoke(name, &[]);
    assert_eq!(invoked.status.code(), Some(1), "{invoked:?}");
    String::from_utf8(invoked.stderr).unwrap()
}

#[test]
fn a_function_that_no_node_can_hold_says_so_also_when_nobody_waits_any_more() {
    let (_dir, cluster) = cluster();
    let flags = ["--image", "builtin:function", "--memory", "500GiB", "--queue-deadline", "300ms"];
    cluster.operator_ok(&[&["function", "register", "big"], &flags[..]].concat());
    assert_eq!(show(&cluster, "big")["last_error"], Value::Null);
    let said = invoke_fails(&cluster, "big");
    assert!(
        said.contains("504") && said.contains("`dirigent function show big` shows the state of its sandboxes"),
        "{said}"
    );
    wait_for("the end of its demand", || match show(&cluster, "big") {
        shown if shown["waiting"] == 0 => Ok(()),
        shown => Err(shown.to_string()),
    });
    let error = show(&cluster, "big")["last_error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("no node has room for 512000 MiB and 100 millicores (largest "), "{error}");
    let listed = cluster.operator_ok(&["function", "list", "--format", "csv"]);
    assert!(listed.contains("no node has room for 512000 MiB"), "{listed}");
    // Made smaller, it runs, and the lack of room is over.
    cluster.operator_ok(&["function", "register", "big", "--image", "builtin:function", "--min", "1"]);
    wait_for("a sandbox", || match show(&cluster, "big") {
        shown if shown["ready"] == 1 && shown["last_error"].is_null() => Ok(()),
        shown => Err(shown.to_string()),
    });
}

#[test]
fn an_image_that_nothing_can_run_is_refused_and_one_that_is_not_allowed_is_explained() {
    let (_dir, cluster) = cluster();
    for image in ["foo", "builtin:nope", "file:relative"] {
        let refused = cluster.operator(&["function", "register", "bad", "--image", image]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{image}: {said}");
        assert!(said.contains("image: expected builtin:function or file:/path/to/program"), "{image}: {said}");
    }
    cluster.operator_ok(&["function", "register", "bad", "--image", "file:/bin/true"]);
    let said = invoke_fails(&cluster, "bad");
    assert!(said.contains("`dirigent function show bad` shows its last error"), "{said}");
    let expected = "image \"file:/bin/true\" may not be run here: process.images (--allow-image) allows builtin:";
    let error = show(&cluster, "bad")["last_error"].to_string();
    assert!(error.replace('\\', "").contains(expected), "{error}");
    for (more, expected) in [
        (&[][..], "bad: no output is kept; its last error"),
        (&["--sandbox", "9-9"], "no output of sandbox 9-9 is kept"),
    ] {
        let output = cluster.operator(&[&["function", "logs", "bad"], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains(expected), "expected {expected:?} in {said:?}");
    }
    assert!(invoke_fails(&cluster, "nobody").contains("`dirigent function register nobody` makes it known"));
}

#[test]
fn an_entry_that_allows_no_image_is_refused_before_anything_starts() {
    for arguments in
        [&["up", "--allow-image", "nonsense"][..], &["worker", "--print-config", "--allow-image", "file:srv/"]]
    {
        let output = dirigent().args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("--allow-image") && said.contains("file:/path/to/program"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_drained_node_is_not_told_as_a_full_one() {
    let (_dir, cluster) = cluster();
    let flags = ["--image", "builtin:function", "--queue-deadline", "300ms"];
    cluster.operator_ok(&[&["function", "register", "f"], &flags[..]].concat());
    cluster.operator_ok(&["node", "drain", "worker-1"]);
    invoke_fails(&cluster, "f");
    let error = show(&cluster, "f")["last_error"].as_str().unwrap().to_owned();
    assert_eq!(error, "no node is in service: 1 drained (`dirigent node drain NAME --undo` takes it back)");
    cluster.operator_ok(&["node", "drain", "worker-1", "--undo"]);
    assert!(cluster.invoke("f", &[]).status.success(), "it is in service again");
}

#[test]
fn the_last_error_of_another_program_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_with(&["--allow-image", "file:/bin/"], dir.path());
    let register = |image: &str, more: &[&str]| {
        let flags = ["function", "register", "f", "--image", image, "--queue-deadline", "300ms"];
        cluster.operator_ok(&[&flags[..], more].concat());
    };
    register("file:/bin/false", &[]);
    invoke_fails(&cluster, "f");
    wait_for("a failure", || match show(&cluster, "f") {
        shown if shown["last_error"].as_str().is_some_and(|error| error.contains("exit status: 1")) => Ok(()),
        shown => Err(shown.to_string()),
    });
    // It runs and never listens, which no failure has been counted for yet.
    register("file:/bin/sleep", &["--arg", "60"]);
    let said = invoke_fails(&cluster, "f");
    let shown = show(&cluster, "f");
    assert_eq!((&shown["failures"], &shown["last_error"]), (&0.into(), &Value::Null), "{shown}");
    // There is none to lead to, so none is promised; what is named is there.
    assert!(said.contains("504") && said.ends_with("and its last error if it has one\n"), "{said}");
    assert!(shown["starting"].is_u64() && shown["ready"] == 0, "how its sandboxes are: {shown}");
}
