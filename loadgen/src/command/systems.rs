//! `loadgen systems`: the systems that `loadgen run --target` can invoke.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use terminal::{Exit, FormatOption, Table, UsageError, columns, print_result};

use crate::system::{Named, System, Systems};

/// Arguments of `loadgen systems`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct SystemsArgs {
    /// A file with further systems, in the form of the built-in systems.toml; one of the same name replaces the built-in one
    #[arg(long, value_name = "FILE")]
    systems: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    output: FormatOption,
}

/// Lists the systems; a file that is wrong is refused, so that this also checks one.
pub(crate) fn run(args: &SystemsArgs) -> anyhow::Result<Exit> {
    let systems = Systems::load(args.systems.as_deref()).context("--systems").map_err(UsageError::of)?;
    print_result(args.output.format, &systems.0, table)?;
    Ok(Exit::Done)
}

fn table(systems: &BTreeMap<String, System>) -> String {
    let mut table = Table::new(["system", "about", "request", "signals", "register"]);
    for (name, system) in systems {
        let headers = system.headers.iter().map(|(name, value)| format!("\n{name}: {value}"));
        let request = format!("{} {} at {}{}", system.method, system.path, system.host, headers.collect::<String>());
        table.row([name, &system.about, &request, system.signals.name(), system.register.name()]);
    }
    table.text(columns())
}
