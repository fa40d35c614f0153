//! `loadgen targets`: the systems that `loadgen run --target` can invoke.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use terminal::{Exit, FormatOption, Table, UsageError, columns, print_result};

use crate::target_profile::{Named, TargetProfile, TargetProfiles};

/// Arguments of `loadgen targets`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct TargetsArgs {
    /// A file with further targets, in the form of the built-in targets.toml; one of the same name replaces the built-in one
    #[arg(long, value_name = "FILE")]
    targets: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    output: FormatOption,
}

/// Lists the targets; a file that is wrong is refused, so that this also checks one.
pub(crate) fn run(args: &TargetsArgs) -> anyhow::Result<Exit> {
    let profiles = TargetProfiles::load(args.targets.as_deref()).context("--targets").map_err(UsageError::of)?;
    print_result(args.output.format, &profiles.0, table)?;
    Ok(Exit::Done)
}

fn table(profiles: &BTreeMap<String, TargetProfile>) -> String {
    let mut table = Table::new(["target", "about", "request", "signals", "register"]);
    for (name, profile) in profiles {
        let headers = profile.headers.iter().map(|(name, value)| format!("\n{name}: {value}"));
        let request = format!("{} {} at {}{}", profile.method, profile.path, profile.host, headers.collect::<String>());
        table.row([name, &profile.about, &request, profile.signals.name(), profile.register.name()]);
    }
    table.text(columns())
}
