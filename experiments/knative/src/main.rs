//! The program `knative`: what is typed is in `command.rs`.

use std::process::ExitCode;

use clap::Parser;
use knative::command;

fn main() -> ExitCode {
    match command::run(command::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stdio::note!("knative: {error:#}");
            ExitCode::FAILURE
        }
    }
}
