//! Whole clusters of separate processes, entered by their doors only: operators' HTTP, invocations, admin pages, signals.
//! Each test names a property that has to hold whatever the parts look like inside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the test harness captures what tests print")]

mod capacity;
mod churn;
mod cluster;
mod concurrency;
mod control_plane;
mod daemon;
mod data_planes;
mod deletion;
mod failing_nodes;
mod freezing;
mod http;
mod invocation;
mod links;
mod lost_log;
mod metrics;
mod names;
mod policies;
mod probe;
mod process;
mod process_sandboxes;
mod recovery;
mod refusals;
mod registration;
mod relay;
mod sharing;
mod traffic;
mod updates;
mod upstream;
mod wait;
mod workers;
