//! The worker: creates and ends sandboxes on its nodes, as the control plane commands.
//!
//! [`build`] binds the ports, [`Built::run`] serves. Inside, one task (`owner`) holds the table of sandboxes (`state`, plain
//! values and synchronous methods) and carries out its effects; a [`runtime`] creates the sandboxes. `messages`, `hello` and
//! `events` convert between the protocol and the worker's own types.

mod address;
mod admin;
mod build;
mod config;
mod cpu;
mod creation_limiter;
mod events;
mod hello;
mod machine;
mod messages;
mod metrics;
mod owner;
mod runtime;
mod session;

mod state;
mod user;

pub use address::SandboxAddress;
pub use admin::http_routes;
pub use build::{BuildError, Built, RunError, build};
pub use config::{Config, ConfigError, NodeConfig};
pub use cpu::{Cpu, CpuError};
pub use runtime::{
    RuntimeError, RuntimeKind,
    hollow::{Addressing, HollowConfig},
    process::{MemoryControl, ProcessConfig},
};
pub use user::SandboxUser;
