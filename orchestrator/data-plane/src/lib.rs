//! The data plane carries invocations from clients to sandboxes and holds their queues.
//!
//! [`Service::start`] binds the ports and serves. The decisions about one function (queue, slots, grants) are in
//! `function`: plain state without I/O, which `function.rs` carries out. `invocation` is the life of one request.

mod admin;
mod clients;
mod config;
mod connection;
mod download;
mod error;
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
mod service;
mod stream;
mod table;
mod target;
mod timeline;
mod upload;
mod upstream;

pub use admin::http_routes;
pub use config::{Config, Limits};
pub use error::{RunError, StartError};

pub use self::service::{Addresses, Handle, Service};
