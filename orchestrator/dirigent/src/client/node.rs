//! `node`: list nodes, stop placing on one, forget one.

use clap::{Args, Subcommand};
use serde_json::json;
use ureq::http::Method;

use super::ClientOptions;
use crate::output::{self, Column};

const COLUMNS: [Column; 9] = [
    Column::new("name", "/name"),
    Column::new("state", "/state"),
    Column::new("drained", "/drained"),
    Column::new("worker", "/worker"),
    Column::new("sandboxes", "/sandboxes"),
    Column::new("cpu_millicores", "/capacity/cpu_millicores"),
    Column::new("cpu_reserved_millicores", "/reserved/cpu_millicores"),
    Column::new("memory_mib", "/capacity/memory_mib"),
    Column::new("memory_reserved_mib", "/reserved/memory_mib"),
];

/// The result of changing a node.
const RESULTS: [Column; 2] = [Column::new("name", "/name"), Column::new("result", "/result")];

#[derive(Debug, Args)]
#[command(after_help = "Example: dirigent node list --format csv")]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all nodes
    #[command(after_help = "Example: dirigent node list --format csv")]
    List,
    /// Place nothing more on a node, and end its sandboxes as they become idle
    #[command(after_help = "Example: dirigent node drain worker-1")]
    Drain {
        /// Name of the node
        name: String,
        /// Take it back into service instead
        #[arg(long)]
        undo: bool,
    },
    /// Forget a node that will not come back
    #[command(after_help = "Example: dirigent node remove worker-1")]
    Remove {
        /// Name of the node
        name: String,
    },
}

/// Does what was asked about nodes.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let control_plane = arguments.client.control_plane()?;
    match &arguments.command {
        Command::List => {
            let nodes = control_plane.get("/v1/nodes")?;
            output::print_rows(arguments.client.output.format, &COLUMNS, control_plane.rows(&nodes, "nodes")?)?;
        }
        Command::Drain { name, undo } => {
            let method = if *undo { Method::DELETE } else { Method::POST };
            control_plane.json(method, &format!("/v1/nodes/{name}/drain"), None)?;
            let result = if *undo { "in service" } else { "draining" };
            output::print_rows(arguments.client.output.format, &RESULTS, &[json!({ "name": name, "result": result })])?;
        }
        Command::Remove { name } => {
            control_plane.json(Method::DELETE, &format!("/v1/nodes/{name}"), None)?;
            output::print_rows(
                arguments.client.output.format,
                &RESULTS,
                &[json!({ "name": name, "result": "removed" })],
            )?;
        }
    }
    Ok(())
}
