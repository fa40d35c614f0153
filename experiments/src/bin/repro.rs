//! The program `repro`: see the crate.

use std::process::ExitCode;

use experiments::{command::CommandLine, exit};

fn main() -> ExitCode {
    match terminal::arguments::<CommandLine>().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            terminal::note!("repro: {error:#}");
            exit::of(&error).into()
        }
    }
}
