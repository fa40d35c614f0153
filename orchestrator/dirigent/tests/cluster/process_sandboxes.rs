//! Sandboxes as child processes, from the first request to the end of their worker.

use std::{fs, os::unix::fs::PermissionsExt};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    cluster::{Cluster, Plan},
    daemon::dirigent,
    invocation::Invocation,
    process,
    wait::{check, wait_for},
};

/// Run time asked for, in milliseconds.
const RUN_MS: u32 = 100;

/// A cluster with three sandbox processes on one worker; their ids.
fn start() -> (Cluster, Vec<u32>) {
    let cluster = Cluster::start(Plan { workers: 1, mode: "spin", ..Plan::PROCESS });
    cluster.register("f", json!({ "scale": { "min": 3 } }));
    wait_for("three sandboxes", || check(cluster.ready_sandboxes("f").len() == 3, cluster.show("f")));
    let sandboxes = cluster.sandbox_processes();
    assert_eq!(process::alive(&sandboxes).len(), 3, "expected a process for each sandbox: {sandboxes:?}");
    (cluster, sandboxes)
}

fn assert_none_stays(sandboxes: &[u32]) {
    wait_for("every sandbox process to be gone", || {
        let left = process::alive(sandboxes);
        check(left.is_empty(), format!("{left:?}"))
    });
}

#[test]
fn the_function_runs_as_long_as_requested() {
    let cluster = Cluster::start(Plan { mode: "spin", ..Plan::PROCESS });
    cluster.register("f", json!({}));
    let requested_us = u64::from(RUN_MS) * 1000;
    // On a busy machine a run may take longer, but never less; one run undisturbed enough is asked for.
    wait_for("a run within 30 % of what was asked for", || {
        let response = Invocation::of("f").run_ms(RUN_MS).at(cluster.invoke_address());
        let ran_us = response.assert_ok().json()["ExecutionTime"].as_u64().unwrap();
        assert!(ran_us >= requested_us * 7 / 10, "expected at least {requested_us} µs, found {ran_us}");
        check(ran_us <= requested_us * 13 / 10, ran_us)
    });
}

#[test]
fn its_output_can_be_read_by_operators() {
    let cluster = Cluster::start(Plan::PROCESS);
    cluster.register("f", json!({}));
    let response = cluster.invoke("f");
    let at = ["--control-plane", cluster.control_plane.address("http")];
    let output = dirigent().args(["function", "logs", "f"]).args(at).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "expected the logs: {text}");
    let header = format!("==> {} <==", response.assert_ok().sandbox());
    assert!(text.contains(&header) && text.contains("listening on"), "expected {header} and its output: {text}");
}

#[test]
fn output_of_failed_sandboxes_can_be_read_and_says_that_it_is_cut() {
    let cluster = Cluster::start(Plan::PROCESS);
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    let body = "#!/bin/sh\nprintf 'error: \\033[2Jno database\\n'; head -c 100000 /dev/zero | tr '\\0' x; exit 3\n";
    fs::write(&program, body).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.register("broken", json!({ "image": format!("file:{}", program.display()), "scale": { "min": 1 } }));
    let at = ["--control-plane", cluster.control_plane.address("http")];
    let logs = |format| {
        let output = dirigent().args(["function", "logs", "broken", "--format", format]).args(at).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let text = wait_for("the output of a sandbox that failed", || {
        let text = logs("table");
        let has_ended = text.lines().next().is_some_and(|line| line.contains(", ended: "));
        if has_ended { Ok(text) } else { Err(text) }
    });
    let said = ", ended: exit status: 3, its first 34487 bytes are not kept <==";
    assert!(text.lines().next().unwrap().ends_with(said) && text.contains("xxx"), "{}", &text[..200]);
    let csv = logs("csv");
    assert!(csv.lines().count() >= 2 && !csv.contains('\u{1b}'), "{}", &csv[..200]);
    let shown = cluster.show("broken").to_string();
    assert!(shown.contains("exit status: 3: error: ") && !shown.contains('\u{1b}'), "the first error: {shown}");
}

#[test]
fn output_commands_no_terminal_behind_a_pipe_unless_it_is_asked_for_as_it_is() {
    let cluster = Cluster::start(Plan::PROCESS);
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "#!/bin/sh\nprintf '\\033[2Jcleared\\n'; exit 3\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.register("noisy", json!({ "image": format!("file:{}", program.display()), "scale": { "min": 1 } }));
    let at = ["--control-plane", cluster.control_plane.address("http")];
    let logs = |more: &[&str]| dirigent().args(["function", "logs", "noisy"]).args(more).args(at).output().unwrap();
    wait_for("its output", || {
        let text = String::from_utf8(logs(&[]).stdout).unwrap();
        let is_shown = text.contains("\n\\u{1b}[2Jcleared\n") && !text.contains('\u{1b}');
        if is_shown { Ok(()) } else { Err(text) }
    });
    let raw = String::from_utf8(logs(&["--raw"]).stdout).unwrap();
    assert!(raw.contains("\n\u{1b}[2Jcleared\n"), "{raw:?}");
    assert_eq!(logs(&["--raw", "--format", "json"]).status.code(), Some(2), "JSON has escapes of its own");
}

#[test]
fn an_interrupted_worker_ends_its_sandboxes() {
    let (mut cluster, sandboxes) = start();
    let status = cluster.workers[0].end(Signal::SIGINT);
    assert_eq!(status.code(), Some(0), "expected a clean end");
    assert_none_stays(&sandboxes);
}

#[test]
fn a_killed_worker_leaves_no_sandbox_behind() {
    let (mut cluster, sandboxes) = start();
    cluster.workers[0].crash();
    assert_none_stays(&sandboxes);
}

#[test]
fn a_sandbox_no_longer_wanted_is_a_process_no_more() {
    let (cluster, sandboxes) = start();
    assert_eq!(cluster.operator("DELETE /v1/functions/f", "").status, 202);
    assert_none_stays(&sandboxes);
    // A process that is a zombie is no more, and is reaped soon.
    wait_for("them to be reaped as well", || {
        let left = cluster.sandbox_processes();
        check(left.is_empty(), format!("{left:?}"))
    });
}
