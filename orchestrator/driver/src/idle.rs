//! The CPU time of each component without load.

use std::time::Duration;

use clap::Args;

use crate::{
    Common,
    cluster::Cluster,
    daemon::{Daemon, sleep},
    registration::{in_bulk, specifications},
    report::Report,
};

/// The options of `driver idle`.
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

/// Wait until the work of the start is done.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// Runs the measurement.
///
/// # Errors
/// If a component does not start or a registration is refused.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::start(common, options.workers, 1, Duration::ZERO)?;
    let specs = specifications("function-", options.functions)?;
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    sleep(SETTLE_TIME);
    let components: Vec<&Daemon> =
        [&cluster.control_plane, &cluster.data_plane].into_iter().chain(&cluster.workers).collect();
    let used = || components.iter().map(|component| component.cpu_us()).collect::<anyhow::Result<Vec<_>>>();
    let before = used()?;
    sleep(Duration::from_secs(options.seconds));
    let cpu_percent: Vec<f64> = used()?
        .iter()
        .zip(before)
        .map(|(now_us, before_us)| percent_of_a_core(now_us - before_us, options.seconds))
        .collect();
    let mut report = Report::default();
    report.add("control_plane_percent_of_a_core", cpu_percent[0]);
    report.add("data_plane_percent_of_a_core", cpu_percent[1]);
    report.add("busiest_worker_percent_of_a_core", cpu_percent[2..].iter().copied().fold(0.0, f64::max));
    Ok(report)
}

/// Share of one core that `cpu_us` in `seconds` are, in percent.
fn percent_of_a_core(cpu_us: u64, seconds: u64) -> f64 {
    cpu_us as f64 / 1e4 / seconds as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_a_percentage_of_one_core() {
        assert_eq!(percent_of_a_core(2_000_000, 20).to_bits(), 10.0_f64.to_bits());
        assert_eq!(
            percent_of_a_core(3_000_000, 2).to_bits(),
            150.0_f64.to_bits(),
            "two busy threads use more than a core"
        );
    }
}
