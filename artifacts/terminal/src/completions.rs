//! Shell completions: the subcommand `completions SHELL` of a program that has subcommands, the option
//! `--completions SHELL` of one that has none.

use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

/// Name of the subcommand, and of the option.
const COMPLETIONS: &str = "completions";
/// Name of the subcommand's argument.
const SHELL: &str = "shell";
const ABOUT: &str = "Print a completion script for a shell";

/// Adds completions to a command line.
pub(crate) fn added(command: Command) -> Command {
    let shell = Arg::new(SHELL).value_name("SHELL").value_parser(clap::value_parser!(Shell));
    if !command.has_subcommands() {
        return command.arg(shell.long(COMPLETIONS).exclusive(true).help(ABOUT));
    }
    let program = command.get_name().to_owned();
    let example =
        format!("Example: {program} {COMPLETIONS} bash > ~/.local/share/bash-completion/completions/{program}");
    let subcommand = Command::new(COMPLETIONS).about(ABOUT).after_help(example);
    command.subcommand(subcommand.arg(shell.required(true).help("Shell to complete in")))
}

/// The shell whose completions were asked for.
pub(crate) fn requested(typed: &ArgMatches) -> Option<Shell> {
    let typed = match typed.subcommand() {
        Some((COMPLETIONS, typed)) => typed,
        Some(_) => return None,
        None => typed,
    };
    typed.try_get_one::<Shell>(SHELL).ok().flatten().copied()
}

/// The completion script of a program.
pub(crate) fn script(command: &mut Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    script
}
