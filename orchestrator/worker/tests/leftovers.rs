//! The end of leftover processes with their worker. In a program of its own, because the leftovers of all workers of a
//! process are children of that process, and any of these workers ends them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking and documents itself")]

mod support;

use std::{fs, time::Duration};

use support::{daemon_that_left, exists, start_processes as start, until};

#[tokio::test]
async fn a_leftover_without_an_environment_ends_with_the_worker_at_the_latest() {
    let (_control_plane, worker, mut stream) =
        start(|config| config.process.monitor_interval = Duration::from_secs(3600)).await;
    let daemon = daemon_that_left(&mut stream).await;
    assert!(exists(daemon), "no pass has found it yet");
    worker.end().await;
    until("the daemon is dead", async || {
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}
