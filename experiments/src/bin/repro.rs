//! The program `repro`: see the crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    terminal::main::<experiments::command::CommandLine>()
}
