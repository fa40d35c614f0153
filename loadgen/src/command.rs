//! The subcommands: each file has its arguments, a linear `run`, and what that needs.

pub(crate) mod inspect;
pub(crate) mod mock;
mod ports;
pub(crate) mod proxy;
pub(crate) mod register;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod selftest;
pub(crate) mod synth;
pub(crate) mod systems;

use anyhow::Context;
use serde::Serialize;

use crate::source::Format;

/// The heading, in the help, of options that say what is left and printed.
pub(crate) const OUTPUT: &str = "Output";

/// Prints a result on standard output. A reader that has gone away is no error.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    terminal::print(format!("{}\n", text.trim_end())).context("writing to standard output")
}

/// Prints a result in the chosen form, without control characters of a terminal: notes hold texts of traces and systems.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn print_as<T: Serialize>(format: Format, value: &T, table: impl Fn(&T) -> String) -> anyhow::Result<()> {
    match format {
        Format::Table => print(&terminal::visible_lines(&table(value))),
        Format::Json => print(&terminal::visible_json(&serde_json::to_string_pretty(value)?)),
    }
}
