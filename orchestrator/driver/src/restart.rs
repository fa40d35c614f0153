//! The control plane is killed and started again: when the first cold start is answered, and what warm traffic saw.

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
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    Common,
    cluster::Cluster,
    daemon::sleep,
    invocation::Client,
    registration::{in_bulk, specifications},
    report::Report,
};

/// What `driver restart` is told.
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

/// Functions' names are this and a number.
const PREFIX: &str = "f";
/// Nodes of one worker.
const NODES_PER_WORKER: u32 = 100;
/// How long the control plane stays away.
const AWAY: Duration = Duration::from_secs(1);
/// From the first cold start after a restart to the next kill.
const SETTLE: Duration = Duration::from_secs(3);
/// CPU of a function's sandbox, in millicores: thousands fit the nodes.
const SANDBOX_CPU: u32 = 10;
/// A warm invocation that takes longer is counted.
const SLOW: Duration = Duration::from_millis(100);

/// Warm traffic: what it saw so far.
#[derive(Default)]
struct Traffic {
    over: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

/// Measures.
///
/// # Errors
/// When a part does not start, or a cold start fails.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let needed = options.sandboxes + options.repetitions;
    ensure!(options.sandboxes >= 1 && needed <= options.functions, "--functions must be at least {needed}");
    let mut cluster =
        Cluster::start(common, options.nodes.div_ceil(NODES_PER_WORKER), NODES_PER_WORKER, Duration::ZERO)?;
    let mut specs = specifications(PREFIX, options.functions)?;
    for (spec, number) in specs.iter_mut().zip(0..) {
        (spec.cpu, spec.scale.min) = (SANDBOX_CPU, u32::from(number < options.sandboxes));
    }
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    cluster.reach(|status| status["sandboxes_ready"] == options.sandboxes)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let data_plane = cluster.data_plane.port("invoke");
    let traffic = Arc::new(Traffic::default());
    let warm = runtime.spawn(carry(data_plane, traffic.clone(), options.sandboxes));
    let (mut listens_us, mut answered_us) = (Vec::new(), Vec::new());
    for number in (0..options.functions).rev().take(options.repetitions as usize) {
        let listens = cluster.control_plane.restart(AWAY)?;
        let answered = listens + cold_start(&runtime, data_plane, &name(number))?;
        listens_us.push(u64::try_from(listens.as_micros()).unwrap_or(u64::MAX));
        answered_us.push(u64::try_from(answered.as_micros()).unwrap_or(u64::MAX));
        sleep(SETTLE);
    }
    traffic.over.store(true, Ordering::Relaxed);
    runtime.block_on(warm)??;
    let mut report = Report::default();
    report.add("restarts", f64::from(options.repetitions));
    report.add_spread(["listens_after_p50_us", "listens_after_p99_us"], &mut listens_us);
    report.add_spread(["first_cold_start_after_p50_us", "first_cold_start_after_p99_us"], &mut answered_us);
    for (name, count) in [
        ("warm_invocations", &traffic.answered),
        ("warm_failed", &traffic.failed),
        ("warm_slower_than_100_ms", &traffic.slow),
    ] {
        report.add(name, count.load(Ordering::Relaxed) as f64);
    }
    Ok(report)
}

fn name(number: u32) -> String {
    format!("{PREFIX}{number}")
}

/// Invokes a function without a sandbox; how long the answer took.
fn cold_start(runtime: &Runtime, data_plane: SocketAddr, function: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let answer = runtime.block_on(async { Client::connect(data_plane).await?.invoke(function, 0).await?.check() })?;
    ensure!(answer.cold, "{function} had a sandbox already");
    Ok(began.elapsed())
}

/// Invokes functions that have a sandbox, one after the other, until told to end.
async fn carry(data_plane: SocketAddr, traffic: Arc<Traffic>, functions: u32) -> anyhow::Result<()> {
    let mut client = Client::connect(data_plane).await?;
    for number in (0..functions).cycle() {
        if traffic.over.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        match client.invoke(&name(number), 0).await.and_then(super::invocation::Answer::check) {
            Ok(_) => traffic.answered.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                stdio::note!("a warm invocation failed: {error:#}");
                client = Client::connect(data_plane).await?;
                traffic.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        if began.elapsed() > SLOW {
            traffic.slow.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Between two warm invocations: some hundred per second are enough to see a gap.
const PAUSE: Duration = Duration::from_millis(2);
