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

pub(crate) use run::Run;
