//! `verify`: the invariants of a finished run, from its files alone.

use std::path::PathBuf;

use clap::Args;
use record::RunDir;

use crate::{exit::Exit, table::Format, verify};

/// What was typed.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example: repro verify artifacts/runs/20260102T030405Z-laptop-azure-500")]
pub struct Arguments {
    /// The run's directory
    run: PathBuf,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Judges a run and prints what was found.
///
/// # Errors
/// When the directory holds no run, or a file of it is malformed.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let invariants = verify::judge(&RunDir(arguments.run.clone()))?;
    verify::table(&invariants).print(arguments.format)?;
    Ok(verify::invariant::exit(&invariants))
}
