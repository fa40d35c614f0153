//! `repro`: runs the experiments of this project on systems that it knows only as tables, and checks the results.
//!
//! A definition describes load and settings, `systems.toml` how each system is started and invoked; all results are in a
//! run directory. Every program is started as a process, and every process is stopped.

pub mod checkout;
pub mod checksum;
pub mod claims;
pub mod command;
pub mod console;
pub mod definition;
pub mod exit;
pub mod interrupt;
pub mod isolation;
pub mod machine;
pub mod run;
pub mod session;
pub mod system;
pub mod verify;
