//! Hollow sandboxes: creation is a modelled delay, and the function answers inside this process.
//!
//! Thousands of nodes fit one machine this way, and what is measured is the cluster manager. Nothing here knows the
//! orchestrator, because the Knative testbed uses the same sandboxes, so that both systems are on equal terms.

mod address;
mod delay;
mod listener;
mod sandboxes;

pub use address::AddressPool;
pub use delay::{Delay, DelayError};
pub use function::{Function, FunctionConfig, Mode};
pub use listener::{BindError, Network, WildcardListener};
pub use sandboxes::{Connection, NotHere, Sandboxes};
