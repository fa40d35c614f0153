//! The program `knative`: what is typed is in `command.rs`.

use std::process::ExitCode;

use knative::command;

fn main() -> ExitCode {
    match command::run(stdio::arguments::<command::Cli>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stdio::note!("knative: {error:#}");
            ExitCode::FAILURE
        }
    }
}
