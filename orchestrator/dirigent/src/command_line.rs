//! The command line: the subcommands, and the options that all of them share.

use clap::{ArgMatches, Parser, Subcommand};
use terminal::{Exit, Program};

use crate::{
    client::{function, invoke, node, status, top},
    logging::LogFormat,
    serve::{control_plane, data_plane, up, worker},
};

const EXAMPLE: &str = "\
Example: a cluster on this machine, one function, one invocation
  dirigent up --workers 2 --data-dir cluster &
  dirigent function register hello --image builtin:function
  dirigent invoke hello";

/// A cluster manager for functions: starts the components of a cluster and operates it.
#[derive(Debug, Parser)]
#[command(name = "dirigent", version = env!("PROGRAM_VERSION"), after_help = EXAMPLE)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,

    /// Form of log lines on standard error; applies to the commands that log: up, control-plane, data-plane, worker
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster in this process, on loopback
    Up(up::Arguments),
    /// Run a control plane
    ControlPlane(control_plane::Arguments),
    /// Run a data plane
    DataPlane(data_plane::Arguments),
    /// Run a worker
    Worker(worker::Arguments),
    /// Register, list, show and delete functions; read their logs
    Function(function::Arguments),
    /// Invoke a function once; print its response and where the time went
    Invoke(invoke::Arguments),
    /// List, drain and remove nodes
    Node(node::Arguments),
    /// Show leader, epoch and counts of a cluster
    Status(status::Arguments),
    /// Watch what a cluster is busy with: functions, rates, nodes, phases of creations
    Top(top::Arguments),
}

impl Program for CommandLine {
    fn run(self, _: &ArgMatches) -> anyhow::Result<Exit> {
        match self.command {
            Command::Up(arguments) => up::run(arguments, self.log_format),
            Command::ControlPlane(arguments) => control_plane::run(arguments, self.log_format),
            Command::DataPlane(arguments) => data_plane::run(arguments, self.log_format),
            Command::Worker(arguments) => worker::run(arguments, self.log_format),
            Command::Function(arguments) => function::run(arguments),
            Command::Invoke(arguments) => invoke::run(arguments),
            Command::Node(arguments) => node::run(&arguments),
            Command::Status(arguments) => status::run(&arguments),
            Command::Top(arguments) => top::run(&arguments),
        }?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        terminal::command::<CommandLine>().debug_assert();
    }
}
