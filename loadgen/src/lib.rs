//! The load generator: replays a schedule against a FaaS cluster, exactly when it is due, and records what happened.
//!
//! It is the instrument that every figure of a report rests on: an open system with absolute due times, paced by the
//! kernel's clock on a thread of its own, whose own lateness is measured and bounds what it may claim. The program is
//! the interface; the files it leaves are those of the `record` crate.

mod applies;
mod cli;
mod command;
mod deployer;
mod functions;
mod http;
mod machine;
mod measure;
mod mock;
mod replay;
mod signals;
mod source;
mod target_profile;

/// Runs the program.
#[must_use]
pub fn main() -> std::process::ExitCode {
    terminal::main::<cli::Cli>()
}
