//! A part that does not reach its control plane says why, on standard error, with the option that helps.

use std::{
    fs,
    process::{Child, Stdio},
};

use crate::cluster::{Cluster, dirigent, wait_for};

/// Ended with the test.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `part` with these arguments, waits until its log has all of `expected` in one line, and ends it.
fn assert_says(part: &str, arguments: &[&str], expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = dirigent();
    command.args([part, "--admin", "127.0.0.1:0", "--data-dir", "d"]).args(arguments).current_dir(directory.path());
    if part == "data-plane" {
        command.args(["--invoke", "127.0.0.1:0"]);
    }
    let stderr = fs::File::create(&log).unwrap();
    let _part = Part(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap());
    wait_for(&format!("a line of {part} {arguments:?} with {expected:?}"), || {
        let said = fs::read_to_string(&log).unwrap();
        let is_said = said.lines().any(|line| expected.iter().all(|words| line.contains(words)));
        if is_said { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_part_without_a_control_plane_says_what_keeps_it_from_one() {
    for part in ["worker", "data-plane"] {
        let there = ["--control-plane", "127.0.0.1:1"];
        assert_says(part, &there, &["WARN", "127.0.0.1:1", "onnection refused", "--control-plane"]);
        let nowhere = ["--control-plane", "no.such.host.invalid:9090"];
        assert_says(part, &nowhere, &["WARN", "no.such.host.invalid:9090", "failed to lookup address"]);
    }
}

#[test]
fn the_port_for_operators_and_a_missing_token_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start("hollow", dir.path());
    for part in ["worker", "data-plane"] {
        let operators = cluster.address("http");
        assert_says(part, &["--control-plane", &operators], &["WARN", &operators, "no control plane's stream"]);
        for other in ["invoke", "admin"] {
            let other = cluster.address(other);
            assert_says(
                part,
                &["--control-plane", &other],
                &["WARN", &other, "no control plane's stream", "--control-plane"],
            );
        }
        let streams = cluster.address("stream");
        let without_token = ["--control-plane", &streams, "--token-file", "nosuch"];
        assert_says(part, &without_token, &["WARN", "nosuch", "No such file or directory"]);
    }
}

#[test]
fn what_is_no_address_is_refused_at_start() {
    for part in ["worker", "data-plane"] {
        for address in ["foo", "http://127.0.0.1:9090", ":9090", "h:0"] {
            let output = dirigent().args([part, "--control-plane", address, "--print-config"]).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{part} {address}: {said}");
            assert!(said.contains("--control-plane") && said.contains("HOST:PORT"), "{part} {address}: {said}");
        }
    }
}
