//! `repro` by the door its users take: the program itself, on a toy system made of shell scripts and on the real one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod baseline;
mod building;
mod checking;
mod command_line;
mod earlier;
mod end_to_end;
mod ending;
mod external;
mod failing;
mod isolating;
mod locking;
mod preparing;
mod refusing;
mod repeating;
mod reporting;
mod resuming;
mod running;
mod sweeping;
mod toy;
mod waiting;
