//! The command line of `analysis` has what that of every program has: help, version, errors, completions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

#[test]
fn it_is_like_that_of_every_program() {
    let faults = programs::command_line_faults(Path::new(env!("CARGO_BIN_EXE_analysis"))).unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
