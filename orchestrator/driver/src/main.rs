//! The program `driver`: measures parts of a cluster by themselves, over their real doors.
//!
//! It starts the `dirigent` program beside it, loads it, and prints what it saw. What a user would measure end to end is
//! an experiment of `repro` instead; here are the numbers behind it.

mod burst;
mod churn;
mod cluster;
mod creations;
mod daemon;
mod http;
mod idle;
mod invocation;
mod memory;
mod registration;
mod report;
mod restart;
mod usage;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::report::Format;

/// Measures parts of a cluster by themselves.
#[derive(Debug, Parser)]
#[command(
    version = env!("PROGRAM_VERSION"),
    after_help = "Build `dirigent` first (cargo build --release --bins): the driver starts the one \
    beside itself.\n\nExample: driver creations --nodes 5000 --rate 10000"
)]
struct CommandLine {
    #[command(flatten)]
    common: Common,

    #[command(subcommand)]
    command: Command,
}

/// What every measurement is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The program `dirigent` [default: the one beside this program]
    #[arg(long, value_name = "PATH", global = true)]
    dirigent: Option<PathBuf>,

    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What a control plane carries alone: creations decided, dispatched and published at a constant rate
    Creations(creations::Options),
    /// Durable registrations per second, by clients one at a time and in bulk
    Registration(registration::Options),
    /// Memory that registered, idle functions take in a control plane and in a data plane
    Memory(memory::Options),
    /// How soon after a kill of the control plane the first cold start is answered, and what warm traffic sees
    Restart(restart::Options),
    /// How soon many invocations of one instant are answered: of as many functions, or of one
    Burst(burst::Options),
    /// What every part has open after functions have come and gone for long: descriptors, threads, memory
    Churn(churn::Options),
    /// CPU that each part uses when there is nothing to do
    Idle(idle::Options),
}

impl Common {
    /// The program to measure.
    ///
    /// # Errors
    /// When this program cannot tell where it lies.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        match &self.dirigent {
            Some(path) => Ok(path.clone()),
            None => Ok(std::env::current_exe().context("finding this program")?.with_file_name("dirigent")),
        }
    }
}

fn main() -> ExitCode {
    let CommandLine { common, command } = stdio::arguments();
    let result = match &command {
        Command::Creations(options) => creations::run(&common, options),
        Command::Registration(options) => registration::run(&common, options),
        Command::Memory(options) => memory::run(&common, options),
        Command::Restart(options) => restart::run(&common, options),
        Command::Burst(options) => burst::run(&common, options),
        Command::Churn(options) => churn::run(&common, options),
        Command::Idle(options) => idle::run(&common, options),
    };
    match result {
        Ok(report) => {
            if let Err(error) = stdio::print(report.render(common.format)) {
                stdio::note!("driver: cannot write to standard output: {error}");
                return ExitCode::FAILURE;
            }
            for objection in report.objections() {
                stdio::note!("driver: {objection}");
            }
            if report.objections().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            stdio::note!("driver: {error:#}");
            ExitCode::FAILURE
        }
    }
}
