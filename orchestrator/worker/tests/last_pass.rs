//! What a worker does about strays when it ends. In a program of its own: the strays of all workers of a process are
//! children of that process, and any of these workers ends them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking and documents itself")]

mod support;

use std::{fs, time::Duration};

use support::{daemon_that_left, exists, start_processes as start, until};

#[tokio::test]
async fn what_left_its_sandbox_without_an_environment_ends_with_the_worker_at_the_latest() {
    let (_control_plane, worker, mut stream) =
        start(|config| config.process.monitor_interval = Duration::from_secs(3600)).await;
    let daemon = daemon_that_left(&mut stream).await;
    assert!(exists(daemon), "nobody has looked");
    worker.end().await;
    until("the daemon is dead", async || {
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    })
    .await;
}
