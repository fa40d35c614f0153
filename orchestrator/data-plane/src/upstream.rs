//! Sandboxes as this data plane reaches them: their connections, each carrying one invocation at a time.
//!
//! HTTP/2 connections are used the same way, one invocation at a time: the end of a connection is the only sign,
//! in both protocols, that a sandbox has stopped working on a cancelled invocation.

mod confirm;
mod idle;
mod linger;
mod link;
mod no_response;
mod sandbox;
mod trust;
mod wire;

pub(crate) use confirm::confirm;
pub(crate) use idle::{IdleLinks, close_aged};
pub(crate) use linger::{Rest, linger};
pub(crate) use link::{Link, poll_answer};
pub(crate) use no_response::NoResponse;
pub(crate) use sandbox::{OpenError, Sandbox};
pub(crate) use trust::Trust;
