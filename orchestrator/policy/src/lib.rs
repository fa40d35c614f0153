//! The decisions of the cluster manager as pure functions: the number of sandboxes, the node of each, and the slot of
//! an invocation.
//!
//! Nothing here knows a clock, does I/O or creates randomness: time and random numbers are arguments, so that equal
//! inputs give equal decisions in tests, in simulation and in production. A new policy is one file next to the others
//! and one line in the table of its module.

pub mod adaptive_lifo;
pub mod autoscale;
pub mod balance;
pub mod placement;
