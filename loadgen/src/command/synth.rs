//! `loadgen synth` and `loadgen sample`: write a trace, made or sampled, as an Azure-2019-format directory.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use terminal::{Exit, FormatOption, UsageError, print_result};
use trace::{Summary, azure2019};

use crate::{
    command::{OUTPUT, inspect::summary_table},
    measure::results::make_directory,
    source::SourceArgs,
};

/// Arguments of `loadgen synth` and `loadgen sample`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct SynthArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The directory to write; made if it is not there
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    out: PathBuf,
    /// Replace a trace that is in --out already; without it such a directory is refused
    #[arg(long, help_heading = OUTPUT)]
    overwrite: bool,
    #[command(flatten, next_help_heading = OUTPUT)]
    #[serde(flatten)]
    output: FormatOption,
}

/// Figures of the files that were written.
#[derive(Debug, Serialize)]
struct Written {
    directory: PathBuf,
    #[serde(flatten)]
    summary: Summary,
    notes: Vec<String>,
}

/// Makes the trace and writes it.
pub(crate) fn run(args: &SynthArgs) -> anyhow::Result<Exit> {
    let there = azure2019::FILES.into_iter().find(|name| args.out.join(name).exists());
    if let Some(name) = there.filter(|_| !args.overwrite) {
        let problem = format!("--out {}: {name} is there already; --overwrite replaces a trace", args.out.display());
        return Err(UsageError::of(anyhow::anyhow!(problem)));
    }
    let (workload, notes) = args.source.workload()?;
    make_directory(&args.out)?;
    azure2019::write(&args.out, &workload).context("writing the trace")?;
    let summary = workload.summary(&args.source.options());
    let written = Written { directory: args.out.clone(), summary, notes };
    print_result(args.output.format, &written, |written| {
        let notes: String = written.notes.iter().map(|note| format!("{note}\n")).collect();
        format!("{}{notes}", summary_table(&written.summary))
    })?;
    Ok(Exit::Done)
}
