//! The program `repro`: see the crate.

use std::process::ExitCode;

use clap::Parser;
use experiments::{command::CommandLine, exit};

fn main() -> ExitCode {
    match CommandLine::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            stdio::note!("repro: {error:#}");
            exit::of(&error).into()
        }
    }
}
