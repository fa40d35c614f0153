//! The simulation: a scenario from a seed, the real parts on simulated machines, what happened, and what must hold.

mod client;
mod cluster;
mod event;
mod fault;
mod host;
mod http;
mod invariants;
mod ledger;
mod network;
mod operator;
mod panics;
mod run;
mod scenario;
mod tap;
mod weather;

#[allow(unused_imports, reason = "the program replays seeds only, tests also faults of their own")]
pub(crate) use fault::{Fault, Planned};
#[allow(unused_imports, reason = "see above")]
pub(crate) use host::Host;
pub(crate) use run::Run;
pub(crate) use scenario::Scenario;
