//! The command line: the subcommands, and the options that all of them share.

pub mod doctor;
pub mod list;
pub mod plan;
pub mod report;
pub mod run;
pub mod verify;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{ArgMatches, Args, Parser, Subcommand};
use terminal::Program;

use crate::{
    checkout::Checkout,
    console::Console,
    definition::overrides::Overrides,
    exit::{self, Exit, UsageError},
    interrupt::Interrupt,
    isolation::{Entered, IsolateArguments},
    run::resolved::PlannedExperiment,
    session::Session,
    system::{
        Systems,
        launch::{LaunchArguments, Launcher, become_program},
        orphans,
    },
};

/// The experiment that is run when none is named.
const MAIN_EXPERIMENT: &str = "azure-500";

const EXAMPLE: &str = "\
Examples:
  repro --quick                                    the few-minute version
  repro                                            azure-500 on this machine
  repro run azure-500 --trace DIR --minutes 30     a real trace
  repro run cold-start-sweep --rates 1000,4000     cold starts at two rates
  repro verify artifacts/runs/DIR";

/// Run experiments on this machine, and check and analyse their results. Without a subcommand, runs azure-500.
#[derive(Debug, Parser)]
#[command(name = "repro", version = env!("PROGRAM_VERSION"), after_help = EXAMPLE)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    /// Run the version of azure-500 that takes a few minutes
    #[arg(long)]
    quick: bool,

    /// Checkout with the experiments, systems and runs; default: the one that contains the working directory
    #[arg(long, global = true, value_name = "DIR")]
    checkout: Option<PathBuf>,

    /// Folder of the built programs; set for the process inside the private namespaces
    #[arg(long, global = true, hide = true, value_name = "DIR", requires = "runner")]
    isolated: Option<PathBuf>,

    /// Process id of the process that the user started; set likewise
    #[arg(long, global = true, hide = true, value_name = "PID")]
    runner: Option<u32>,

    /// Reasons why programs of systems were not built, by system, as JSON; set likewise
    #[arg(long, global = true, hide = true, value_name = "JSON", value_parser = unbuilt)]
    unbuilt: Option<Unbuilt>,
}

/// Reasons by system.
type Unbuilt = BTreeMap<String, String>;

fn unbuilt(text: &str) -> Result<Unbuilt, serde_json::Error> {
    serde_json::from_str(text)
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that this machine can run the experiments; print a fix for each problem
    Doctor(doctor::Arguments),
    /// List experiments, systems and earlier runs
    List(list::Arguments),
    /// Print the steps of an experiment with their estimated time, without running it
    Plan(Box<plan::Arguments>),
    /// Run an experiment
    Run(Box<run::Arguments>),
    /// Check the invariants and claims of a finished run
    Verify(verify::Arguments),
    /// Recompute the statistics of a run and rewrite its report
    Report(report::Arguments),
    /// Replace this process by another program
    #[command(hide = true)]
    Launch(LaunchArguments),
    /// Run a command in private namespaces
    #[command(hide = true)]
    Isolate(IsolateArguments),
}

/// Selection of an experiment, its scale, and overrides.
#[derive(Args, Clone, Debug)]
pub struct Selection {
    /// Name of the experiment; `repro list` prints all
    #[arg(default_value = MAIN_EXPERIMENT, value_name = "EXPERIMENT")]
    experiment: String,

    /// Scale of the experiment
    #[arg(long, default_value = "laptop", value_name = "NAME")]
    scale: String,

    #[command(flatten)]
    overrides: Overrides,
}

impl Selection {
    /// The main experiment on this machine.
    fn main(quick: bool) -> Self {
        let overrides = Overrides { quick, ..Overrides::default() };
        Self { experiment: MAIN_EXPERIMENT.to_owned(), scale: "laptop".to_owned(), overrides }
    }

    /// Resolves the selection: the experiment with its points, and its plan.
    fn planned(&self, checkout: &Checkout) -> anyhow::Result<PlannedExperiment> {
        let definition = crate::definition::find(&checkout.definitions(), &self.experiment)?;
        let systems = Systems::read(&checkout.systems())?;
        PlannedExperiment::new(definition, &systems, &self.scale, &self.overrides.absolute()?)
    }
}

impl Program for CommandLine {
    const EXIT_CODES: &'static [Exit] = &[Exit::Done, Exit::Failed, Exit::Usage, Exit::Invalid, Exit::NotHeld];

    fn exit(error: &anyhow::Error) -> Exit {
        exit::of(error)
    }

    fn run(self, _: &ArgMatches) -> anyhow::Result<Exit> {
        self.execute()
    }
}

impl CommandLine {
    /// Runs the subcommand, also as the first process inside a private namespace.
    fn execute(self) -> anyhow::Result<Exit> {
        if self.quick && self.command.is_some() {
            let problem = "--quick goes with `repro` alone or after the subcommand, as in `repro plan --quick`";
            return Err(UsageError(problem.to_owned()).into());
        }
        let checkout = || Checkout::find(self.checkout.as_deref());
        let unbuilt = self.unbuilt.unwrap_or_default();
        let inside = self.isolated.zip(self.runner);
        let inside = inside.map(|(programs, runner)| run::Inside { programs, unbuilt, runner });
        match self.command {
            None => run::run(&run::Arguments::main(self.quick).inside(inside), &checkout()?),
            Some(Command::Run(arguments)) => run::run(&arguments.inside(inside), &checkout()?),
            Some(Command::Doctor(arguments)) => doctor::run(&arguments, &checkout()?),
            Some(Command::List(arguments)) => list::run(&arguments, &checkout()?),
            Some(Command::Plan(arguments)) => plan::run(&arguments, &checkout()?),
            Some(Command::Verify(arguments)) => verify::run(&arguments),
            Some(Command::Report(arguments)) => report::run(&arguments, &checkout()?),
            Some(Command::Launch(arguments)) => Err(become_program(&arguments)),
            Some(Command::Isolate(arguments)) => match arguments.enter()? {
                Entered::Ended(exit) => Ok(exit),
                Entered::Inside(arguments) if arguments.is_empty() => Ok(Exit::Done),
                Entered::Inside(arguments) => {
                    let name = std::iter::once("repro".into());
                    Self::try_parse_from(name.chain(arguments))?.execute()
                }
            },
        }
    }
}

/// Opens the session of this process. It takes over the signals of the process, so it must
/// be the first thing that a command does.
fn session() -> anyhow::Result<Session> {
    let interrupt = Interrupt::listen()?;
    orphans::adopt()?;
    let process = std::process::id();
    Ok(Session { launcher: Launcher::this_program()?, interrupt, console: Console::of_process(), process })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        terminal::command::<CommandLine>().debug_assert();
    }

    #[test]
    fn without_a_subcommand_the_main_experiment_is_meant() {
        let typed = CommandLine::try_parse_from(["repro", "--quick"]).unwrap();
        assert!(typed.command.is_none() && typed.quick);
        let misplaced = CommandLine::try_parse_from(["repro", "--quick", "run"]).unwrap().execute();
        assert!(misplaced.unwrap_err().is::<UsageError>(), "--quick belongs after run");
    }
}
