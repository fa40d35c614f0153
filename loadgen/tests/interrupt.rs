//! A replay that is stopped or killed keeps what was measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod mock;
mod program;

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
