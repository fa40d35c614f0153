//! A real data plane on loopback between a scripted control plane and scripted sandboxes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::large_futures, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the test harness captures what tests print")]

mod blocking;
mod client;
mod sandbox;
mod world;

mod clients;
mod departures;
mod early;
mod early_http2;
mod faults;
mod framing;
mod grants;
mod http;
mod late;
mod outage;
mod overload;
mod pipelining;
mod probes;
mod queueing;
mod retirement;
mod reuse;
mod sections;
mod slow_clients;
mod streams;
mod unreadable;
mod unsent;
