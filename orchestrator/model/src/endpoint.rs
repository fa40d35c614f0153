//! Endpoints: where a sandbox answers, and whether new invocations may go there.

use std::net::SocketAddr;

use crate::SandboxId;

/// The address a sandbox answers on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Where it answers.
    pub address: SocketAddr,
}

/// What a data plane may do with an endpoint it holds slots of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// Its slots may be used.
    Active,
    /// Its node is suspect: no new invocation; running ones go on; it may become active again.
    Suspended,
    /// It leaves service: no new invocation; its slots go back when the running ones are done.
    Draining,
    /// It is no more: forget it; whatever still runs there has failed.
    Gone,
}
