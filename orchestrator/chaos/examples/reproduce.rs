//! Runs seeds by hand: one with its events, or many with a line each.

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use std::{io::Write, process::ExitCode};

use clap::Parser;
use simulation::{Run, Scenario};
use tracing_subscriber::{EnvFilter, fmt::format::Writer, fmt::time::FormatTime};

/// Replays runs of the simulated cluster. `RUST_LOG` enables the components' logs.
///
/// Example: reproduce --reproduce 7
#[derive(Parser)]
struct Arguments {
    /// Run this seed and print its events.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["from", "count"])]
    reproduce: Option<u64>,
    /// First seed of many.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of seeds to run.
    #[arg(long, default_value_t = 10)]
    count: u64,
    /// Run each seed twice and compare the events.
    #[arg(long)]
    twice: bool,
}

/// The time in logs is that of the simulation.
struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let ms = turmoil::sim_elapsed().unwrap_or_default().as_secs_f64() * 1000.0;
        write!(writer, "{ms:>10.3}")
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SimulatedTime)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    let seeds = match arguments.reproduce {
        Some(seed) => seed..seed + 1,
        None => arguments.from..arguments.from + arguments.count,
    };
    let mut failed = false;
    for seed in seeds {
        let run = Run::of(Scenario::of_seed(seed));
        // A closed pipe is no failure of the run.
        let mut out = std::io::stdout();
        if arguments.reproduce.is_some() {
            let _ = run.entries.iter().try_for_each(|entry| writeln!(out, "{entry}"));
        }
        let _ = write!(out, "{run}");
        failed |= !run.violations.is_empty();
        if arguments.twice {
            let difference = run.difference(&Run::of(Scenario::of_seed(seed)));
            let _ = writeln!(out, "  {}", difference.as_deref().unwrap_or("the same events again"));
            failed |= difference.is_some();
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
