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
pub(crate) mod targets;

use anyhow::Context;

/// The heading, in the help, of options that say what is left and printed.
pub(crate) const OUTPUT: &str = "Output";

/// Prints a result on standard output. A reader that has gone away is no error.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    terminal::print(format!("{}\n", text.trim_end())).context("writing to standard output")
}
