//! `status`: leader, epoch and counts.

use clap::Args;

use super::ClientOptions;
use crate::output::{self, Column};

const COLUMNS: [Column; 17] = [
    Column::new("leader", "/leader"),
    Column::new("epoch", "/epoch"),
    Column::new("recovered", "/recovered"),
    Column::new("uptime_ms", "/uptime_ms"),
    Column::new("functions", "/functions"),
    Column::new("functions without room", "/functions_unschedulable"),
    Column::new("workers", "/workers"),
    Column::new("nodes ready", "/nodes_ready"),
    Column::new("nodes suspect", "/nodes_suspect"),
    Column::new("nodes dead", "/nodes_dead"),
    Column::new("data planes", "/data_planes"),
    Column::new("sandboxes ready", "/sandboxes_ready"),
    Column::new("sandboxes starting", "/sandboxes_starting"),
    Column::new("sandboxes leaving", "/sandboxes_leaving"),
    Column::new("granted slots", "/granted_slots"),
    Column::new("invocations waiting", "/waiting"),
    Column::new("invocations running", "/running"),
];

#[derive(Debug, Args)]
#[command(after_help = "Example: dirigent status --format json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientOptions,
}

/// Prints the status of the cluster.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let status = arguments.client.control_plane()?.get("/v1/status")?;
    Ok(output::print_one(arguments.client.output.format, &COLUMNS, &status)?)
}
