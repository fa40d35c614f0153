//! The control plane: registration, autoscaling, placement, health and fan-out, in one process without internal RPC.
//!
//! [`build`] binds its ports and reads the command log; [`Built::run`] serves until told to stop. One task owns all
//! state ([`state`](self)), and everything durable goes through a [`Store`].

mod coldstarts;
mod config;
mod ending;
mod heartbeats;
mod http;
mod log_writer;
mod message;
mod metrics;
mod now;
mod outbox;
mod owner;
mod part;
mod policies;
mod registry;
mod state;
mod store;
mod streams;

pub use config::{Autoscale, Config, ConfigError, Health, Placement};
pub use http::http_routes;
pub use part::{BuildError, Built, RunError, build};
pub use store::{Command, Compacted, Logged, MemoryStore, RedbStore, Store, StoreError, StoreFuture};
