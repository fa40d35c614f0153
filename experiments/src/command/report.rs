//! `report`: the statistics and figures of a run, made again.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use record::RunDir;

use crate::{
    checkout::Checkout,
    claims,
    exit::{Exit, UsageError},
    run::{
        self,
        programs::{Origin, Programs},
    },
};

/// Arguments of the subcommand.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example: repro report artifacts/runs/20260102T030405Z-laptop-azure-500")]
pub struct Arguments {
    /// The run's directory
    run: PathBuf,

    /// Folder of built programs; they are used instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Makes the report again.
///
/// # Errors
/// If the directory holds no run, or one that is still measured, or the analysis fails.
pub fn run(arguments: &Arguments, checkout: &Checkout) -> anyhow::Result<Exit> {
    let session = super::session()?;
    let path = &arguments.run;
    RunDir(path.clone()).read_manifest()?;
    let dir = RunDir(path.canonicalize().with_context(|| path.display().to_string())?);
    // A process that measures into it makes the report itself at the end.
    let _lock = session.lock(&dir.0)?;
    if dir.points()?.is_empty() {
        return Err(
            UsageError(format!("{}: nothing was measured, so there is nothing to report", path.display())).into()
        );
    }
    let programs = Programs::new(Origin::typed(arguments.programs.as_deref()), checkout, &[], session.watch())?;
    let exit = run::report(&session, &programs, &dir)?;
    Ok(exit.or(claims::print_of(&dir)?))
}
