//! `repro`: runs the experiments of this project on systems that it knows only as tables, and judges what they left.
//!
//! A definition says what to ask, `systems.toml` how each system is started and reached; a run directory is what
//! remains. Every program is started as a process and every process is stopped.

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
