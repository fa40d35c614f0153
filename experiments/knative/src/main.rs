//! The program `knative`: what is typed is in `command.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    terminal::main::<knative::command::Cli>()
}
