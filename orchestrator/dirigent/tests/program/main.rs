//! The program `dirigent` as its users meet it: started as a process, judged by its output, its exit code, the
//! serves over HTTP and what it leaves behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod cluster;
mod command_line;
mod configuration;
mod form;
mod lifecycle;
mod pasted;
mod reasons;
mod taken;
mod terminal;
mod top;
mod unreachable;
