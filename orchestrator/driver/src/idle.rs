//! CPU that each part uses when there is nothing to do.

use std::time::Duration;

use clap::Args;

use crate::{
    Common,
    cluster::Cluster,
    daemon::{Daemon, sleep},
    registration::{in_bulk, specifications},
    report::Report,
};

/// What `driver idle` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: driver idle --functions 1000 --workers 100")]
pub(crate) struct Options {
    /// Functions that are registered
    #[arg(long, default_value_t = 1000)]
    functions: u32,

    /// Workers, each with a node and connections of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,

    /// Length of the measured part, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Time for the start to be over.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures.
///
/// # Errors
/// When a part does not start or a registration is refused.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::start(common, options.workers, 1, Duration::ZERO)?;
    let specs = specifications("function-", options.functions)?;
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    sleep(SETTLE);
    let parts: Vec<&Daemon> =
        [&cluster.control_plane, &cluster.data_plane].into_iter().chain(&cluster.workers).collect();
    let used = || parts.iter().map(|part| part.cpu_us()).collect::<anyhow::Result<Vec<_>>>();
    let before = used()?;
    sleep(Duration::from_secs(options.seconds));
    let percent = |us: u64| us as f64 / 1e4 / options.seconds as f64;
    let cpu_percent: Vec<f64> =
        used()?.iter().zip(before).map(|(now_us, before_us)| percent(now_us - before_us)).collect();
    let mut report = Report::default();
    report.add("control_plane_percent_of_a_core", cpu_percent[0]);
    report.add("data_plane_percent_of_a_core", cpu_percent[1]);
    report.add("busiest_worker_percent_of_a_core", cpu_percent[2..].iter().copied().fold(0.0, f64::max));
    Ok(report)
}
