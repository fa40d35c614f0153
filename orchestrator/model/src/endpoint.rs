//! Endpoints: the addresses of sandboxes, and their states for data planes.

use std::net::SocketAddr;

use crate::SandboxId;

/// A sandbox and the address that it listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The sandbox's id.
    pub sandbox: SandboxId,
    /// The address that it listens on.
    pub address: SocketAddr,
}

/// The use that a data plane may make of an endpoint with granted slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// Its slots may be used.
    Active,
    /// Its node is suspect: no new invocation, running ones continue. It may become active again.
    Suspended,
    /// It leaves service: no new invocation; its slots are returned when the running ones are done.
    Draining,
    /// It does not exist any more: invocations that still run there have failed.
    Gone,
}
