//! The building blocks of every component, independent of the protocol between components: configuration and handle of a
//! service, the network and its simulation interface, reconnecting with back-off, a clock, a histogram, the server of the
//! operators' API, error responses, and logging of repeated failures.

mod accept;
mod admin;
mod backoff;
mod bind;
mod causes;
mod clock;
mod config;
mod handle;
mod histogram;
mod log_limiter;
mod name;
mod network;
mod problem;
mod reconnect;
mod route;

pub use accept::AcceptFailures;
pub use admin::AdminServer;
pub use backoff::Backoff;
pub use bind::{BindError, bind};
pub use causes::with_causes;
pub use clock::{Clock, micros};
pub use config::{Config, ConfigError};
pub use handle::{Handle, SHUTDOWN_FLUSH_TIMEOUT};
pub use histogram::Histogram;
pub use log_limiter::LogLimiter;
pub use name::default_name;
pub use network::{ANY_LOOPBACK, Accepted, Datagrams, Duplex, Io, Listener, Network, OsNetwork};
pub use problem::{invalid_field, problem};
pub use reconnect::{Reconnect, SessionEnd};
pub use route::Route;
