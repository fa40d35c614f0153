//! The main function of every program: its command line is read, what was typed is done, and an error is reported with
//! its causes and a documented exit code.

use std::{io, process::ExitCode};

use anyhow::Context;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::{Exit, completions, failure::report, mistakes::explained, print};

/// Columns of the widest help. Longer lines are hard to read, and few terminals show them whole.
const MAX_HELP_COLUMNS: usize = 100;

/// A program of this workspace: its command line, and what it does.
///
/// The derived command names the program and, as `version`, what `revision::emit` sets for the compilation.
pub trait Program: CommandFactory + FromArgMatches {
    /// The exit codes that it ends with, for its help.
    const EXIT_CODES: &'static [Exit] = &[Exit::Done, Exit::Failed, Exit::Usage];

    /// Changes what cannot be derived of the command line.
    #[must_use]
    fn adjusted(command: Command) -> Command {
        command
    }

    /// The exit code that an error means.
    #[must_use]
    fn exit(error: &anyhow::Error) -> Exit {
        Exit::of(error)
    }

    /// Does what was typed; `typed` distinguishes an option from its default.
    ///
    /// # Errors
    /// If it cannot be done; [`Program::exit`] gives the exit code.
    fn run(self, typed: &ArgMatches) -> anyhow::Result<Exit>;
}

/// Runs a program, which is all that its main function does.
#[must_use]
pub fn main<P: Program>() -> ExitCode {
    let mut command = command::<P>();
    // Not cloned for the second use: the function of a sandbox starts here, and its start is measured.
    let typed = command.try_get_matches_from_mut(std::env::args_os());
    let typed = typed.unwrap_or_else(|error| explained(error).exit());
    let result = match completions::requested(&typed) {
        Some(shell) => done(print(completions::script(&mut command, shell))),
        None => match P::from_arg_matches(&typed) {
            Ok(program) => program.run(&typed),
            Err(error) => error.format(&mut command).exit(),
        },
    };
    let exit = result.unwrap_or_else(|error| {
        report(&error);
        P::exit(&error)
    });
    exit.into()
}

fn done(printed: io::Result<()>) -> anyhow::Result<Exit> {
    printed.context("writing to standard output")?;
    Ok(Exit::Done)
}

/// The whole command line of a program, with what all programs have.
#[must_use]
pub fn command<P: Program>() -> Command {
    let command = completions::added(P::adjusted(P::command())).max_term_width(MAX_HELP_COLUMNS);
    let codes = P::EXIT_CODES.iter().map(|exit| format!("{} {}", *exit as u8, exit.meaning()));
    let codes = format!("Exit codes: {}", codes.collect::<Vec<_>>().join(", "));
    let after = match command.get_after_help() {
        Some(text) => format!("{text}\n\n{codes}"),
        None => codes,
    };
    command.after_help(after)
}
