//! The control plane: registration, autoscaling, placement, health and fan-out, in one process without internal RPC.
//!
//! [`Service::start`] binds the ports, reads the command log and serves. One task owns all state ([`state`](self)), and
//! everything durable goes through a [`Store`].

mod coldstarts;
mod config;
mod ending;
mod error;
mod heartbeats;
mod http;
mod log_writer;
mod message;
mod metrics;
mod now;
mod outbox;
mod owner;
mod policies;
mod registry;
mod service;
mod state;
mod store;
mod streams;

pub use config::{Autoscale, Config, Health, Placement};
pub use error::{RunError, StartError};
pub use http::http_routes;
pub use store::{Command, Compacted, Logged, MemoryStore, RedbStore, Store, StoreError, StoreFuture};

pub use self::service::{Addresses, Handle, Service};
