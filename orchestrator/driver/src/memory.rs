//! The memory of registered, idle functions.

use std::time::Duration;

use clap::Args;

use crate::{
    Common,
    cluster::Cluster,
    daemon::sleep,
    registration::{in_bulk, specifications},
    report::Report,
};

/// The options of `driver memory`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: driver memory --functions 100000")]
pub(crate) struct Options {
    /// Functions to register
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    functions: u32,
}

/// Wait until the temporary memory of the registration is freed.
const SETTLE_TIME: Duration = Duration::from_secs(3);

/// Runs the measurement.
///
/// # Errors
/// If a component does not start or a registration is refused.
pub(crate) fn run(common: &Common, options: &Options) -> anyhow::Result<Report> {
    let cluster = Cluster::start(common, 1, 1, Duration::ZERO)?;
    let components = [&cluster.control_plane, &cluster.data_plane];
    let before = components.map(|component| component.memory_kib());
    let specs = specifications("function-", options.functions)?;
    in_bulk(cluster.control_plane.port("http"), &specs)?;
    sleep(SETTLE_TIME);
    let mut report = Report::default();
    report.add("functions", f64::from(options.functions));
    let names = ["control_plane_kib_each", "data_plane_kib_each"];
    for ((name, component), before) in names.into_iter().zip(components).zip(before) {
        let grown = component.memory_kib()?.saturating_sub(before?);
        report.add(name, grown as f64 / f64::from(options.functions));
    }
    Ok(report)
}
