//! The decisions of the cluster manager as pure values: how many sandboxes, on which node, in which slot.
//!
//! Nothing here knows a clock, does I/O or makes randomness of its own: time and random numbers are arguments,
//! so that the same inputs always give the same decisions, in a test, in a simulation and in production.
//! Adding a policy is one file beside the others and one line in the table of its module.

pub mod adaptive_lifo;
pub mod autoscale;
pub mod balance;
pub mod placement;
