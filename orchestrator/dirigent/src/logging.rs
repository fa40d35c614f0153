//! Log lines of the daemons: on standard error, filtered by `RUST_LOG`, text for people and JSON for machines.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// Shown unless `RUST_LOG` says otherwise: what happened to the daemon, not what it did for each invocation.
const DEFAULT_FILTER: &str = "info";

/// Form of log lines.
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
    // Unless configured otherwise it complains with `eprintln!` when nobody reads its lines any more, and so ends the daemon.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    match format {
        LogFormat::Text => {
            lines.compact().with_ansi(is_coloured(io::stderr().is_terminal(), |name| env::var_os(name))).init()
        }
        LogFormat::Json => lines.json().init(),
    }
}

/// Returns true if text is coloured: on a terminal, unless its user turned colours off (`NO_COLOR`, <https://no-color.org>) or
/// it knows none.
fn is_coloured(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_off = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !is_off && variable("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_can_be_turned_off() {
        for (is_terminal, no_color, term, expected) in [
            (true, None, Some("xterm"), true),
            (true, None, None, true),
            (true, Some(""), Some("xterm"), true),
            (true, Some("1"), Some("xterm"), false),
            (true, None, Some("dumb"), false),
            (false, None, Some("xterm"), false),
        ] {
            let variable = |name: &str| if name == "NO_COLOR" { no_color } else { term }.map(OsString::from);
            assert_eq!(is_coloured(is_terminal, variable), expected, "{is_terminal} {no_color:?} {term:?}");
        }
    }
}
