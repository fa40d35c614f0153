//! The program `dirigent`: starts the components of a cluster, and talks to them as an operator.
//!
//! It owns what only a program may own: the command line, configuration files, the runtime, signals, logging and
//! exit codes. What the components do is in their crates.

mod client;
mod command_line;
mod configuration;
mod input;
mod logging;
mod option_values;
mod output;
mod serve;

use std::process::ExitCode;

use crate::command_line::CommandLine;

/// The daemons allocate and free small buffers on all threads at once, which is what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    terminal::main::<CommandLine>()
}
