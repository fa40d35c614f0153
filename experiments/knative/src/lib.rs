//! The real Kubernetes and Knative control plane on one machine, with hollow nodes: built from its Go modules, started
//! without root in namespaces of its own, and ended without a trace.

pub mod anatomy;
pub mod api;
pub mod cache;
pub mod command;
pub mod compile;
pub mod components;
pub mod creations;
pub mod credentials;
pub mod folder;
pub mod launch;
pub mod network;
pub mod objects;
pub mod pods;
pub mod prepared;
pub mod quiet;
pub mod recipe;
pub mod register;
pub mod supervise;
pub mod testbed;
pub mod topology;
pub mod variant;
pub mod versions;
