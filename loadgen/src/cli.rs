//! The command line: what can be typed, and which subcommand it means.

use clap::{ArgMatches, Parser, Subcommand};
use terminal::{Exit, Program};

use crate::{
    applies,
    command::{
        inspect::{self, InspectArgs},
        mock::{self, MockArgs},
        proxy::{self, ProxyArgs},
        register::{self, RegisterArgs},
        run::{self, RunArgs},
        schedule::{self, ScheduleArgs},
        selftest::{self, SelftestArgs},
        synth::{self, SynthArgs},
        targets::{self, TargetsArgs},
    },
};

/// Replays traces against a FaaS cluster, on time, and records what happened.
///
/// A run is invalid if the schedule could not be kept, a row cannot be true, or nothing succeeded.
#[derive(Debug, Parser)]
#[command(version = env!("PROGRAM_VERSION"))]
#[command(after_help = "Example:\n  loadgen run --synthetic --minutes 5 --address 127.0.0.1:8080 --out results")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay a schedule against a system
    #[command(after_help = RUN_EXAMPLE)]
    Run(Box<RunArgs>),
    /// Write the exact send times and exit
    #[command(after_help = "Example:\n  loadgen schedule --trace azure-500 --minutes 30 --out schedule.csv \
                            --functions-out functions.ndjson")]
    Schedule(Box<ScheduleArgs>),
    /// Say what is in a trace
    #[command(after_help = "Example:\n  loadgen inspect --trace azure-500 --minutes 30")]
    Inspect(Box<InspectArgs>),
    /// Make a trace
    #[command(
        after_help = "Example:\n  loadgen synth --synthetic azure --functions 200 --minutes 60 --seed 7 --out trace"
    )]
    Synth(Box<SynthArgs>),
    /// Make a smaller trace that represents a larger one
    #[command(after_help = "Example:\n  loadgen sample --trace azure-500 --functions 20 --max-cores 1 --out small")]
    Sample(Box<SynthArgs>),
    /// Register functions at a Dirigent control plane
    #[command(
        after_help = "Example:\n  loadgen register --from functions.ndjson --control-plane http://127.0.0.1:9091"
    )]
    Register(RegisterArgs),
    /// List the targets: the systems that can be invoked
    #[command(after_help = "Example:\n  loadgen targets --targets mine.toml --format json")]
    Targets(TargetsArgs),
    /// Measure how precisely this machine can sleep and send
    #[command(after_help = "Example:\n  loadgen selftest --rate 2000 --duration 5s")]
    Selftest(SelftestArgs),
    /// Answer every request as a function does, at once
    #[command(after_help = "Example:\n  loadgen mock --listen 127.0.0.1:8081")]
    Mock(MockArgs),
    /// Copy bytes between clients and a server: what any proxy costs at least on this machine
    #[command(after_help = "Example:\n  loadgen proxy --to 127.0.0.1:8081 --listen 127.0.0.1:8080")]
    Proxy(ProxyArgs),
}

const RUN_EXAMPLE: &str = "Examples:
  loadgen run --trace azure-500 --minutes 30 --warmup 10m --address 127.0.0.1:8080 --out results
  loadgen run --rate 200 --duration 60s --cold --cooldown 10s --address 127.0.0.1:8080 --out cold \\
      --register http://127.0.0.1:9091";

impl Program for Cli {
    const EXIT_CODES: &'static [Exit] = &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Invalid];

    /// Commands that make a trace show none of the options that they refuse.
    fn adjusted(command: clap::Command) -> clap::Command {
        let shown = |argument: clap::Arg| {
            let hidden = applies::is_of_invocations(argument.get_id().as_str());
            argument.hide(hidden)
        };
        ["synth", "sample"]
            .into_iter()
            .fold(command, |cli, name| cli.mut_subcommand(name, |subcommand| subcommand.mut_args(shown)))
    }

    fn run(self, typed: &ArgMatches) -> anyhow::Result<Exit> {
        typed.subcommand().map_or(Ok(()), |(name, typed)| applies::check(name, typed))?;
        run_command(self.command)
    }
}

fn run_command(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Schedule(args) => schedule::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Synth(args) | Command::Sample(args) => synth::run(&args),
        Command::Register(args) => register::run(&args),
        Command::Targets(args) => targets::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Mock(args) => mock::run(&args),
        Command::Proxy(args) => proxy::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        terminal::command::<Cli>().debug_assert();
    }

    #[test]
    fn what_is_left_and_printed_is_under_a_heading_of_its_own() {
        let cli = terminal::command::<Cli>();
        for name in ["run", "schedule", "inspect", "synth", "sample"] {
            let subcommand = cli.find_subcommand(name).unwrap();
            let mut output = subcommand.get_arguments().filter(|argument| argument.get_id() == "out");
            let mut format = subcommand.get_arguments().filter(|argument| argument.get_id() == "format");
            let headings = output.next().into_iter().chain(format.next()).map(clap::Arg::get_help_heading);
            assert!(headings.into_iter().all(|heading| heading == Some("Output")), "{name}");
        }
    }
}
