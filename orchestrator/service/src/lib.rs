//! Parts that every daemon is made of, independent of the protocol between components: the network and its simulation
//! interface, a clock, the server of the operators' API, error responses, and logging of repeated failures.

mod accept;
mod admin;
mod causes;
mod clock;
mod histogram;
mod log_limiter;
mod network;
mod problem;
mod route;

pub use accept::AcceptFailures;
pub use admin::AdminServer;
pub use causes::with_causes;
pub use clock::{Clock, micros};
pub use histogram::Histogram;
pub use log_limiter::LogLimiter;
pub use network::{ANY_LOOPBACK, Accepted, Datagrams, Duplex, Io, Listener, Network, OsNetwork};
pub use problem::{invalid_field, problem};
pub use route::Route;
