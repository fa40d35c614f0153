//! The worker: makes and ends sandboxes on its nodes, as the control plane commands.
//!
//! [`build`] binds the ports, [`Built::run`] serves. Inside, one task owns the table of sandboxes (`state`, plain
//! values and synchronous methods) and carries out what it decides (`owner`); a [`runtime`] makes the sandboxes.

mod address;
mod admin;
mod build;
mod config;
mod cpu;
mod events;
mod machine;
mod metrics;
mod owner;
mod runtime;
mod session;
mod starts;
mod state;
mod user;

pub use address::SandboxAddress;
pub use build::{BuildError, Built, RunError, build};
pub use config::{
    Addressing, Config, ConfigError, HollowConfig, MemoryControl, NodeConfig, ProcessConfig, RuntimeKind,
};
pub use cpu::{Cpu, CpuError};
pub use user::SandboxUser;
