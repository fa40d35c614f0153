//! The data plane carries invocations from clients to sandboxes and holds their queues.
//!
//! [`build`] binds the ports and [`Built::run`] serves. The decisions about one function (queue, slots, grants) are in
//! `function`: plain state without I/O, which `function.rs` carries out. `invocation` is the life of one request.

mod admin;
mod built;
mod clients;
mod config;
mod connection;
mod download;
mod frames;
mod function;
mod headers;
mod host;
mod invocation;
mod metrics;
mod outgoing;
mod overload;
mod plane;
mod refusal;
mod reports;
mod running;
mod sampler;
mod server;
mod stream;
mod table;
mod target;
mod timeline;
mod upload;
mod upstream;

pub use admin::http_routes;
pub use built::{BuildError, Built, RunError, build};
pub use config::{Config, ConfigError, Limits};
