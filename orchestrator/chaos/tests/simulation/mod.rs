//! The simulation: a scenario from a seed, the real components on simulated machines, the events, and the invariants.

mod client;
mod cluster;
mod event;
mod event_log;
mod fault;
mod fault_injector;
mod host;
mod http;
mod invariants;
mod network;
mod operator;
mod panics;
mod probe;
mod run;
mod scenario;

#[allow(unused_imports, reason = "the program replays seeds only, tests also faults of their own")]
pub(crate) use fault::{Fault, Planned};
#[allow(unused_imports, reason = "see above")]
pub(crate) use host::Host;
pub(crate) use run::Run;
pub(crate) use scenario::Scenario;
