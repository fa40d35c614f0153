//! Hollow sandboxes: a creation is a modelled delay, and the function runs inside this process.
//!
//! So one machine has room for thousands of nodes, and measurements show the cluster manager alone. This crate does not
//! depend on the orchestrator, because the Knative testbed uses the same sandboxes: both systems then have equal
//! conditions.

mod address;
mod delay;
mod listener;
mod sandboxes;

pub use address::AddressPool;
pub use delay::{Delay, DelayError};
pub use function::{Function, FunctionConfig, Mode};
pub use listener::{BindError, Network, WildcardListener};
pub use sandboxes::{Connection, NotHere, Sandboxes};
