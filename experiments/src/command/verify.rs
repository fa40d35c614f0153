//! `verify`: the invariants of a finished run, from its files alone, and its evaluated claims.

use std::path::PathBuf;

use clap::Args;
use record::{DirectoryLock, Invariants, RunDir};
use terminal::{Format, FormatOption};

use crate::{claims, console::Console, exit::Exit, verify};

/// Arguments of the subcommand.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "As JSON and CSV only the invariants are printed; a table is followed by the claims.\n\nExamples:\n  repro verify artifacts/runs/20260102T030405Z-laptop-azure-500\n  repro verify artifacts/runs/20260102T030405Z-laptop-azure-500 --all --format csv"
)]
pub struct Arguments {
    /// The run's directory
    run: PathBuf,

    /// Print all invariants instead of only those that do not hold
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    output: FormatOption,
}

/// Checks a run and prints the invariants, and its claims if they were evaluated with the same findings. It changes nothing
/// in the directory, and prints a note if the report was made from other findings.
///
/// # Errors
/// If the directory holds no run, or one that is still measured, or a file of it is malformed.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let dir = RunDir(arguments.run.clone());
    // While another process holds the lock, rows are still being written, and would break invariants.
    DirectoryLock::check(&dir.0)?;
    let invariants = verify::check(&dir)?;
    verify::print(&invariants, arguments.all, arguments.output.format)?;
    terminal::note!("{}", verify::count(&invariants, &dir.0));
    let known = dir.read_invariants().ok().flatten();
    let is_known = |known: Invariants| known.invariants == invariants.invariants && known.checked == invariants.checked;
    let is_checked = dir.claims().is_file() || dir.summary().is_file() || dir.report().exists();
    let claims = if known.is_some_and(is_known) {
        match arguments.output.format {
            Format::Table => claims::print_of(&dir)?,
            Format::Json | Format::Csv => claims::read(&dir)?.as_ref().map_or(Exit::Done, claims::exit),
        }
    } else {
        let run = arguments.run.display();
        Console::of_process().line(&if dir.points()?.is_empty() {
            "nothing was measured, so there is no claim to evaluate".to_owned()
        } else if is_checked {
            format!("claims and report were made from other findings and are out of date: repro report {run}")
        } else {
            format!("no claim was evaluated with these findings: repro report {run}")
        });
        Exit::Done
    };
    Ok(verify::invariant::exit(&invariants).or(claims))
}
