//! The program `repro`: see the crate.

use std::process::ExitCode;

use experiments::{command::CommandLine, exit};

fn main() -> ExitCode {
    match stdio::arguments::<CommandLine>().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            stdio::note!("repro: {error:#}");
            exit::of(&error).into()
        }
    }
}
