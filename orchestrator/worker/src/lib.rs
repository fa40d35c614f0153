//! The worker: creates and ends sandboxes on its nodes, as the control plane commands.
//!
//! [`Service::start`] binds the ports and serves. Inside, one task (`owner`) holds the table of sandboxes (`state`, plain
//! values and synchronous methods) and carries out its effects; a [`runtime`] creates the sandboxes. `messages`, `hello` and
//! `events` convert between the protocol and the worker's own types.

mod address;
mod admin;
mod config;
mod cpu;
mod creation_limiter;
mod error;
mod events;
mod hello;
mod machine;
mod messages;
mod metrics;
mod owner;
mod runtime;
mod service;
mod session;
mod state;
mod user;

pub use address::SandboxAddress;
pub use admin::http_routes;
pub use config::{Config, NodeConfig};
pub use cpu::{Cpu, CpuError};
pub use error::{RunError, StartError};
pub use runtime::{
    RuntimeError, RuntimeKind,
    hollow::{Addressing, HollowConfig},
    process::{MemoryControl, ProcessConfig},
};
pub use user::SandboxUser;

pub use self::service::{Addresses, Handle, Service};
