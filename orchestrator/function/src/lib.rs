//! The function that runs in a sandbox: it spins or sleeps for as long as the request asks, and touches memory.
//!
//! It is a library and a program, so that the `hollow` runtime and the Knative testbed, which respond without a
//! process, respond exactly as the program does. The request headers are those that existing trace replayers send.

mod function;
mod memory;
mod request;
mod response;
mod spin;

pub use function::{Function, FunctionConfig, Mode};
pub use request::{BadHeader, Work, Workload};
