//! The control plane is killed and started again: the time until the first cold start, and the warm invocations
//! meanwhile.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use clap::Args;
use terminal::UsageError;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    Common,
    cluster::Cluster,
    daemon::sleep,
    invocation::Client,
    registration::{in_bulk, specifications},
    report::Report,
};

/// The options of `driver restart`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: driver restart --functions 10000 --nodes 500 --sandboxes 5000")]
pub(crate) struct Options {
    /// Functions that are registered
    #[arg(long, default_value_t = 10_000)]
    functions: u32,

    /// Nodes, 100 to a worker
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,

    /// Functions that have a sandbox when the control plane is killed
    #[arg(long, default_value_t = 5000)]
    sandboxes: u32,

    /// Kills
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
}

/// Prefix of the functions' names; a number follows.
const PREFIX: &str = "f";
/// Nodes of one worker.
const NODES_PER_WORKER: u32 = 100;
/// Time between the kill and the next start of the control plane.
const DOWNTIME: Duration = Duration::from_secs(1);
/// Time from the first cold start after a restart to the next kill.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// CPU of a function's sandbox, in millicores: the nodes have room for thousands.
const SANDBOX_CPU: u32 = 10;
/// Latency from which a warm invocation counts as slow.
const SLOW_THRESHOLD: Duration = Duration::from_millis(100);

/// The counts of warm invocations so far.
#[derive(Default)]
struct Traffic {
    over: AtomicBool,
    responded: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

/// Runs the measurement.
///
/// # Errors
/// If a component does not start, or a cold start fails.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    options.check().map_err(UsageError::of)?;
    let mut cluster =
        Cluster::start(common, options.nodes.div_ceil(NODES_PER_WORKER), NODES_PER_WORKER, Duration::ZERO)?;
    let mut specs = specifications(PREFIX, options.functions)?;
    for (spec, number) in specs.iter_mut().zip(0..) {
        (spec.cpu, spec.scale.min) = (SANDBOX_CPU, u32::from(number < options.sandboxes));
    }
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    cluster.reach(|status| status["sandboxes_ready"] == options.sandboxes)?;
    // With a worker thread: the warm traffic goes on while this thread waits for the restart.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let data_plane = cluster.data_plane.port("invoke");
    let traffic = Arc::new(Traffic::default());
    let warm = runtime.spawn(send_warm_traffic(data_plane, traffic.clone(), options.sandboxes));
    let (mut listens_us, mut cold_start_us) = (Vec::new(), Vec::new());
    // From the end, where the functions have no sandbox.
    for number in (0..options.functions).rev().take(options.repetitions as usize) {
        let listens = cluster.control_plane.restart(DOWNTIME)?;
        let responded = listens + cold_start(&runtime, data_plane, &name(number))?;
        listens_us.push(u64::try_from(listens.as_micros()).unwrap_or(u64::MAX));
        cold_start_us.push(u64::try_from(responded.as_micros()).unwrap_or(u64::MAX));
        sleep(SETTLE_TIME);
    }
    traffic.over.store(true, Ordering::Relaxed);
    runtime.block_on(warm)??;
    let mut report = Report::default();
    report.add("restarts", f64::from(options.repetitions));
    report.add_spread(["listens_after_p50_us", "listens_after_p99_us"], &mut listens_us);
    report.add_spread(["first_cold_start_after_p50_us", "first_cold_start_after_p99_us"], &mut cold_start_us);
    for (name, count) in [
        ("warm_invocations", &traffic.responded),
        ("warm_failed", &traffic.failed),
        ("warm_slower_than_100_ms", &traffic.slow),
    ] {
        report.add(name, count.load(Ordering::Relaxed) as f64);
    }
    Ok(report)
}

impl Options {
    /// # Errors
    /// If there are too few functions for the sandboxes and one cold start after each restart.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.sandboxes >= 1, "--sandboxes must be at least 1");
        let needed = u64::from(self.sandboxes) + u64::from(self.repetitions);
        ensure!(needed <= u64::from(self.functions), "--functions must be at least {needed}");
        Ok(())
    }
}

fn name(number: u32) -> String {
    format!("{PREFIX}{number}")
}

/// Invokes a function without a sandbox. Returns the latency.
fn cold_start(runtime: &Runtime, data_plane: SocketAddr, function: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let response = runtime.block_on(async { Client::connect(data_plane).await?.invoke(function, 0).await?.check() })?;
    ensure!(response.cold, "{function} had a sandbox already");
    Ok(began.elapsed())
}

/// Invokes functions that have a sandbox, one after the other, until `traffic.over`.
async fn send_warm_traffic(data_plane: SocketAddr, traffic: Arc<Traffic>, functions: u32) -> anyhow::Result<()> {
    let mut client = Client::connect(data_plane).await?;
    for number in (0..functions).cycle() {
        if traffic.over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        match client.invoke(&name(number), 0).await.and_then(crate::invocation::Response::check) {
            Ok(_) => traffic.responded.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                terminal::note!("a warm invocation failed: {error:#}");
                // The failure may have ended the connection.
                client = Client::connect(data_plane).await?;
                traffic.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        if began.elapsed() > SLOW_THRESHOLD {
            traffic.slow.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(WARM_PAUSE).await;
    }
    Ok(())
}

/// Pause between two warm invocations. Some hundred per second are enough to detect a gap.
const WARM_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_restart_needs_a_function_without_a_sandbox() {
        let options = |functions, sandboxes, repetitions| Options { functions, nodes: 1, sandboxes, repetitions };
        assert!(options(25, 20, 5).check().is_ok());
        let refused = options(24, 20, 5).check().unwrap_err().to_string();
        assert_eq!(refused, "--functions must be at least 25");
        assert!(options(25, 0, 5).check().unwrap_err().to_string().starts_with("--sandboxes"));
        assert!(options(u32::MAX, u32::MAX, u32::MAX).check().is_err(), "the sum does not overflow");
    }
}
