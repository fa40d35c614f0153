//! One simulated peer of each kind behind the real protocol, for tests of the real ones.
//!
//! A simulated peer does what a test scripts and nothing by itself, so that a test can send what a correct peer never
//! would. What it waits for arrives within [`WAIT_TIMEOUT`], or the test fails: all methods panic instead of returning
//! errors. The connections are real, on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a scripted peer fails its test by panicking"
)]

mod client;
mod control_plane;
mod data_plane;
mod worker;

use std::time::Duration;

pub use client::StreamPort;
pub use control_plane::{ControlPlane, DataPlaneStream, WorkerStream};
pub use data_plane::DataPlane;
pub use worker::Worker;

/// Longest wait for anything that a test expects. It is reached only if something is broken, so it is generous: tests run
/// on busy machines.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
