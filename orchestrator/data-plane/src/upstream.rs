//! Connections to sandboxes, each carrying one invocation at a time.
//!
//! HTTP/2 connections are used in the same way: in both protocols the end of the connection is the only sign that a
//! sandbox has stopped working on a cancelled invocation.

mod connection;
mod idle;
mod lingering_close;
mod monitored_io;
mod no_response;
mod probe;
mod sandbox;
mod trust;

pub(crate) use connection::{UpstreamConnection, poll_response};
pub(crate) use idle::{IdleConnections, close_aged};
pub(crate) use lingering_close::{PendingWork, close_lingering};
pub(crate) use no_response::NoResponse;
pub(crate) use probe::probe_sandboxes;
pub(crate) use sandbox::{OpenError, Sandbox};
pub(crate) use trust::Trust;
