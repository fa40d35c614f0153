//! `loadgen schedule`: writes the exact send times, and the functions they need, and sends nothing.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use terminal::{Exit, FormatOption, print_result};

use crate::{
    command::OUTPUT,
    functions::{self, DEFAULT_IMAGE},
    source::SourceArgs,
};

/// Arguments of `loadgen schedule`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct ScheduleArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// File to write the schedule into; one that is there is replaced
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    out: PathBuf,
    /// File to write the functions to register into, as `loadgen register` takes them
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    functions_out: Option<PathBuf>,
    /// Image of the functions of --functions-out
    #[arg(long, default_value = DEFAULT_IMAGE, requires = "functions_out", help_heading = OUTPUT)]
    image: String,
    #[command(flatten, next_help_heading = OUTPUT)]
    #[serde(flatten)]
    output: FormatOption,
}

/// Figures of the files that were written.
#[derive(Debug, Serialize)]
struct Written {
    schedule: PathBuf,
    sha256: String,
    seed: u64,
    functions: usize,
    invocations: usize,
    span_ns: u64,
    cores: f64,
    notes: Vec<String>,
}

/// Makes the schedule and writes it.
pub(crate) fn run(args: &ScheduleArgs) -> anyhow::Result<Exit> {
    let loaded = args.source.load()?;
    let schedule = &loaded.schedule;
    schedule.write(&args.out).context("--out")?;
    if let Some(path) = &args.functions_out {
        functions::write(path, &functions::of_schedule(schedule, &args.image)).context("--functions-out")?;
    }
    let warmup = loaded.all_warmup();
    let written = Written {
        schedule: args.out.clone(),
        sha256: schedule.checksum(),
        seed: schedule.seed,
        functions: schedule.functions.len(),
        invocations: schedule.invocations.len(),
        span_ns: schedule.span_ns,
        cores: schedule.cores(),
        notes: schedule.notes.iter().cloned().chain(warmup).collect(),
    };
    print_result(args.output.format, &written, table)?;
    Ok(Exit::Done)
}

fn table(written: &Written) -> String {
    let seconds = written.span_ns / crate::machine::clock::NANOS_PER_SECOND;
    let mut text = format!(
        "{}: {} invocations of {} functions in {seconds} s, {:.2} cores of execution, seed {}, sha256 {}",
        written.schedule.display(),
        written.invocations,
        written.functions,
        written.cores,
        written.seed,
        written.sha256
    );
    for note in &written.notes {
        text.push('\n');
        text.push_str(note);
    }
    text + "\n"
}
