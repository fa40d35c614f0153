//! `list`: experiments, systems and earlier runs.

use std::{fs, path::Path};

use clap::Args;
use record::RunDir;
use terminal::{FormatOption, Table};

use crate::{
    checkout::Checkout,
    definition::{self, Definition},
    exit::Exit,
    system::{Systems, needs},
};

/// Arguments of the subcommand.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example: repro list --format json")]
pub struct Arguments {
    #[command(flatten)]
    output: FormatOption,
}

/// Prints experiments, systems and earlier runs.
///
/// # Errors
/// If a definition or `systems.toml` is wrong.
pub fn run(arguments: &Arguments, checkout: &Checkout) -> anyhow::Result<Exit> {
    let mut table = Table::new(["kind", "name", "about"]);
    for file in definition::files(&checkout.definitions())? {
        let definition = Definition::read(&file)?;
        let about = format!("{} (scales: {})", definition.question, definition.scales.join(", "));
        table.row(["experiment".to_owned(), definition.id, about]);
    }
    for (name, system) in Systems::read(&checkout.systems())?.0 {
        let missing = needs::missing(&system);
        let about = if missing.is_empty() {
            system.about.clone()
        } else {
            format!("{} (cannot run here: {})", system.about, missing.join("; "))
        };
        table.row(["system".to_owned(), name, about]);
    }
    for (name, about) in runs(&checkout.runs()) {
        table.row(["run".to_owned(), name, about]);
    }
    table.print(arguments.output.format)?;
    Ok(Exit::Done)
}

/// Earlier runs, oldest first; other folders are skipped.
fn runs(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut runs: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let manifest = RunDir(entry.path()).read_manifest().ok()?;
            let state = format!("{:?}", manifest.exit).to_lowercase();
            let about = format!("{} at {}, {state}, begun {}", manifest.experiment, manifest.scale, manifest.started);
            Some((entry.file_name().to_string_lossy().into_owned(), about))
        })
        .collect();
    runs.sort();
    runs
}
