//! The program `driver`: measures single components of a cluster over their real interfaces.
//!
//! It starts the program `dirigent` from its own directory, puts load on it, and prints the measurements. End-to-end
//! measurements, as a user would make them, are experiments of `repro`; the driver explains their numbers.

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

use anyhow::{Context, anyhow};
use clap::{ArgMatches, Args, Parser, Subcommand};
use terminal::{Exit, FormatOption, Program};

/// Measures single components of a cluster.
#[derive(Debug, Parser)]
#[command(
    version = env!("PROGRAM_VERSION"),
    after_help = "Build `dirigent` first (cargo build --release --bins): the driver starts the one \
    in its own directory.\n\nExample: driver creations --nodes 5000 --rate 10000"
)]
struct CommandLine {
    #[command(flatten)]
    common: Common,

    #[command(subcommand)]
    command: Command,
}

/// The options of every measurement.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The program `dirigent` [default: the one in this program's directory]
    #[arg(long, value_name = "PATH", global = true)]
    dirigent: Option<PathBuf>,

    #[command(flatten)]
    output: FormatOption,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capacity of a control plane alone: creations decided, dispatched and published at a constant rate
    Creations(creations::Options),
    /// Durable registrations per second, by clients one at a time and in bulk
    Registration(registration::Options),
    /// Memory that registered, idle functions take in a control plane and in a data plane
    Memory(memory::Options),
    /// Time from a kill of the control plane to the first cold start, and the warm invocations meanwhile
    Restart(restart::Options),
    /// Latency of many simultaneous invocations: of as many functions, or of one
    Burst(burst::Options),
    /// Leaks after many functions have come and gone: descriptors, threads and memory of every component
    Churn(churn::Options),
    /// CPU time of each component without load
    Idle(idle::Options),
}

impl Common {
    /// The program to measure.
    ///
    /// # Errors
    /// If the path of this program is unknown.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        match &self.dirigent {
            Some(path) => Ok(path.clone()),
            None => Ok(std::env::current_exe().context("finding this program")?.with_file_name("dirigent")),
        }
    }
}

impl Program for CommandLine {
    fn run(self, _: &ArgMatches) -> anyhow::Result<Exit> {
        let Self { common, command } = &self;
        let report = match command {
            Command::Creations(options) => creations::run(common, options),
            Command::Registration(options) => registration::run(common, options),
            Command::Memory(options) => memory::run(common, options),
            Command::Restart(options) => restart::run(common, options),
            Command::Burst(options) => burst::run(common, options),
            Command::Churn(options) => churn::run(common, options),
            Command::Idle(options) => idle::run(common, options),
        }?;
        terminal::print(report.render(common.output.format)).context("writing to standard output")?;
        for violation in report.violations() {
            terminal::report(&anyhow!("{violation}"));
        }
        Ok(if report.violations().is_empty() { Exit::Done } else { Exit::Failed })
    }
}

fn main() -> ExitCode {
    terminal::main::<CommandLine>()
}
