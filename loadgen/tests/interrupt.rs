//! A replay that is stopped or killed keeps what was measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

use std::{fs, net::TcpListener};

use mock::Mock;
use nix::sys::signal::Signal;
use program::{Running, Scratch, loadgen, read_rows, wait_until};
use record::Outcome;

/// Starts a replay of a minute, 100 invocations per second, the first of which is never answered.
fn started(mock: &Mock, scratch: &Scratch) -> Running {
    let rows: Vec<(u64, &str)> = (0..6000).map(|n| (n * 10, if n == 0 { "slow" } else { "ok" })).collect();
    let (schedule, out, address) = (scratch.schedule(&rows), scratch.path("out"), mock.address.to_string());
    let child = loadgen(&["run", "--schedule", &schedule, "--address", &address, "--out", &out]).spawn();
    let running = Running(child.unwrap());
    wait_until("30 invocations were answered", || mock.count("POST ok") >= 30);
    running
}

#[test]
fn an_interrupt_keeps_every_row() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mock, scratch) = (Mock::data_plane(), Scratch::new());
        let running = started(&mock, &scratch);
        running.signal(signal);
        let (code, errors) = running.end();
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains("stopping"), "{errors}");
        let rows = scratch.rows();
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        assert_eq!(rows.len(), 6000, "every scheduled row is there");
        assert!(count(Outcome::Ok) >= 30 && count(Outcome::Unsent) > 1000, "{} ok", count(Outcome::Ok));
        assert_eq!((rows[0].outcome, rows[0].sent_ns.is_some(), rows[0].done_ns), (Outcome::Error, true, None));
        assert!(rows[0].error.as_ref().unwrap().contains("interrupted"));
        let summary = scratch.summary();
        assert!(summary.interrupted && !summary.valid, "{summary:?}");
        assert_eq!(summary.sent, mock.total());
    }
}

#[test]
fn a_registration_without_a_response_ends_at_the_second_interrupt() {
    let (listener, scratch) = (TcpListener::bind("127.0.0.1:0").unwrap(), Scratch::new());
    let (from, url) = (scratch.path("functions.ndjson"), format!("http://{}", listener.local_addr().unwrap()));
    fs::write(&from, "{\"name\":\"new-1\",\"image\":\"i\"}\n").unwrap();
    let mut running = Running(loadgen(&["register", "--from", &from, "--control-plane", &url]).spawn().unwrap());
    let _asked = listener.accept().unwrap();
    // Two that come together are one signal, so they are sent until the process has ended.
    wait_until("it has ended", || {
        let is_over = running.0.try_wait().unwrap().is_some();
        if !is_over {
            running.signal(Signal::SIGINT);
        }
        is_over
    });
    let (code, errors) = running.end();
    assert!(code == 1 && errors.contains("stopped at once: what was registered so far stays"), "{code}: {errors}");
}

#[test]
fn nothing_is_sent_while_data_planes_do_not_know_the_functions() {
    let (mock, control_plane, scratch) = (Mock::data_plane(), Mock::control_plane(), Scratch::new());
    let (schedule, out) = (scratch.schedule(&[(0, "ok"), (5, "never-1")]), scratch.path("out"));
    let (address, url) = (mock.address.to_string(), format!("http://{}", control_plane.address));
    let run = ["run", "--schedule", &schedule, "--address", &address, "--out", &out, "--register", &url];
    let running = Running(loadgen(&run).spawn().unwrap());
    wait_until("it is registered again", || control_plane.count("PUT never-1") >= 2);
    running.signal(Signal::SIGINT);
    let (code, errors) = running.end();
    let expected = format!(
        "error: 1 of 1 functions could not be confirmed as known to every data plane at {url}, the first of them, \
         never-1: interrupted by the user"
    );
    assert_eq!((code, errors.lines().last()), (1, Some(expected.as_str())), "{errors}");
    assert_eq!((mock.total(), control_plane.count("DELETE never-1")), (0, 1), "{errors}");
}

#[test]
fn a_killed_replay_leaves_the_rows_that_were_flushed() {
    let (mock, scratch) = (Mock::data_plane(), Scratch::new());
    let running = started(&mock, &scratch);
    // Rows are flushed every 100 ms, which at this rate are 10 invocations.
    let before = mock.count("POST ok");
    wait_until("the next flush", || mock.count("POST ok") >= before + 30);
    running.signal(Signal::SIGKILL);
    drop(running);
    let rows = read_rows(&scratch.0.path().join("out/invocations.csv.zst"));
    assert!(rows.len() as u64 >= before, "{} rows of at least {before} answers are on disk", rows.len());
    assert!(rows.iter().all(|row| row.outcome == Outcome::Ok));
    let summary = scratch.summary();
    assert!(summary.interrupted && !summary.valid && summary.scheduled == 6000, "{summary:?}");
}
