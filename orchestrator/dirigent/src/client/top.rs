//! `top`: what the cluster is busy with, live on a terminal or once for scripts.
//!
//! The control plane responds with counts since its start; rates are the changes between two snapshots.

mod columns;
mod live;
mod plain;
mod rates;
mod screen;
mod snapshot;
mod view;

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use terminal::Format;

use self::{rates::Rates, snapshot::Snapshot};
use super::{ClientOptions, http::Server};

/// Longest wait for one snapshot: a live view shows soon that nothing responds.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
/// Data planes report each second, so looking much more often shows nothing more.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

const EXAMPLES: &str = "\
Examples:
  dirigent top
  dirigent top --once --interval 5s --format csv

Keys: up and down scroll, s sorts by the next column, q quits

Rates, the cold share and the phases' quantiles are of the time between two looks; a quantile is the bound of a bucket,
at most a quarter above the true value.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientOptions,

    /// Time between two snapshots, and the span that `--once` measures
    #[arg(long, value_parser = interval, default_value = "1s", value_name = "DURATION")]
    interval: Duration,

    /// Functions shown at most: the busiest, then those active last
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000), default_value_t = 30, value_name = "COUNT")]
    limit: u16,

    /// Look twice, print what happened in between, and end; so it is, too, when standard output is no terminal or the
    /// format is not `table`
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, anyhow::Error> {
    let interval = model::duration::parse(text).map_err(|problem| anyhow!(problem))?;
    if interval < SHORTEST_INTERVAL {
        return Err(anyhow!("it must be at least {}", humantime::format_duration(SHORTEST_INTERVAL)));
    }
    Ok(interval)
}

/// The source of snapshots.
struct SnapshotSource {
    control_plane: Server,
    path: String,
}

impl SnapshotSource {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let response = self.control_plane.get(&self.path)?;
        serde_json::from_value(response).with_context(|| format!("{}: its response", self.control_plane.describe()))
    }
}

/// Waits until the next snapshot is due.
#[allow(clippy::disallowed_methods, reason = "a thread of its own, with no runtime on it")]
fn pause(interval: Duration) {
    thread::sleep(interval);
}

/// Shows the cluster until the user has seen enough, or once.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { client, interval, limit, once } = arguments;
    let control_plane = client.control_plane_within(SNAPSHOT_TIMEOUT)?;
    let path = format!("/v1/top?limit={limit}");
    if *once || client.output.format != Format::Table || !io::stdout().is_terminal() {
        let source = SnapshotSource { control_plane, path };
        let before = source.snapshot()?;
        pause(*interval);
        let rates = Rates::between(Some(&before), &source.snapshot()?);
        return Ok(plain::print(client.output.format, &rates)?);
    }
    Ok(live::run(SnapshotSource { control_plane: control_plane.without_connect_retry(), path }, *interval)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_duration_that_shows_something() {
        assert_eq!(interval("2s").unwrap(), Duration::from_secs(2));
        assert!(interval("1ms").is_err() && interval("soon").is_err());
    }
}
