//! Log lines of the daemons: on standard error, filtered by `RUST_LOG`, text for people and JSON for machines.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Shown unless `RUST_LOG` says otherwise: what happened to the daemon, not what it did for each invocation.
const DEFAULT_FILTER: &str = "info";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One compact line of text each, coloured on a terminal
    #[default]
    Text,
    /// One JSON object each
    Json,
}

/// Starts logging, for the life of the process.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    // Unless told otherwise it complains with `eprintln!` when nobody reads its lines any more, and so ends the daemon.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => lines.compact().with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
}
