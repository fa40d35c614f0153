//! The program `knative`: what is typed is in `command.rs`.

use std::process::ExitCode;

use knative::command;

fn main() -> ExitCode {
    match command::run(terminal::arguments::<command::Cli>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::note!("knative: {error:#}");
            ExitCode::FAILURE
        }
    }
}
