//! The rates of one interval on standard output, for people without a terminal and for scripts.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use terminal::{Format, Output};

use super::rates::Rates;
use crate::output::{self, Column};

/// Columns of the functions; `s` in the live view sorts by one after the other.
pub(super) const FUNCTIONS: [Column; 11] = [
    Column::new("function", "/name"),
    Column::new("invocations/s", "/invocations_per_s"),
    Column::new("creations/s", "/creations_per_s"),
    Column::new("cold share", "/cold_share"),
    Column::new("waiting", "/waiting"),
    Column::new("running", "/running"),
    Column::new("ready", "/ready"),
    Column::new("starting", "/starting"),
    Column::new("leaving", "/leaving"),
    Column::new("failed", "/creations_failed"),
    Column::new("last error", "/last_error"),
];

pub(super) const NODES: [Column; 4] = [
    Column::new("node", "/name"),
    Column::new("state", "/state"),
    Column::new("reserved share", "/reserved_share"),
    Column::new("sandboxes", "/sandboxes"),
];

pub(super) const PHASES: [Column; 5] = [
    Column::new("phase", "/phase"),
    Column::new("creations", "/creations"),
    Column::new("mean us", "/mean_us"),
    Column::new("p50 us", "/p50_us"),
    Column::new("p99 us", "/p99_us"),
];

/// Prints the functions, as a table with everything else around them; JSON has all of it, CSV the functions.
///
/// # Errors
/// If standard output cannot be written.
pub(super) fn print(format: Format, rates: &Rates) -> io::Result<()> {
    match format {
        Format::Json => output::print_one(format, &[], &serde_json::to_value(rates)?),
        Format::Csv => output::print_rows(format, &FUNCTIONS, &values(&rates.functions)?),
        Format::Table => {
            summary(rates).iter().try_for_each(|line| writeln!(Output::lock(), " {line}"))?;
            let tables: [(&[Column], _); 3] = [
                (&FUNCTIONS, values(&rates.functions)?),
                (&NODES, values(&rates.nodes)?),
                (&PHASES, values(&rates.phases)?),
            ];
            for (columns, rows) in tables {
                writeln!(Output::lock())?;
                output::print_rows(format, columns, &rows)?;
            }
            Ok(())
        }
    }
}

/// Rows as JSON, which columns are chosen from.
pub(super) fn values(rows: &[impl Serialize]) -> io::Result<Vec<Value>> {
    Ok(rows.iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
}

/// The cluster in three lines.
pub(super) fn summary(rates: &Rates) -> [String; 3] {
    let cluster = &rates.cluster;
    let role = if cluster.leader { "leader" } else { "follower" };
    let up = humantime::format_duration(std::time::Duration::from_secs(cluster.uptime_ms / 1000));
    let span = rates.span_s.map_or_else(|| "one snapshot so far".to_owned(), |span_s| format!("last {span_s:.1} s"));
    [
        format!("{role}, epoch {}, up {up}; data planes {}; {span}", cluster.epoch, cluster.data_planes.len()),
        format!(
            "nodes {} ready, {} suspect, {} dead; functions {}, {} unschedulable",
            cluster.nodes_ready,
            cluster.nodes_suspect,
            cluster.nodes_dead,
            cluster.functions,
            cluster.functions_unschedulable
        ),
        format!(
            "sandboxes {} ready, {} starting, {} leaving; granted slots {}; invocations {} waiting, {} running",
            cluster.sandboxes_ready,
            cluster.sandboxes_starting,
            cluster.sandboxes_leaving,
            cluster.granted_slots,
            cluster.waiting,
            cluster.running
        ),
    ]
}
