//! The objects that make a cluster a Knative cluster: its own manifests with what the published experiment changes, and
//! what stands in for deployments, nodes and an ingress.

pub mod functions;
pub mod manifests;
pub mod nodes;
pub mod services;
pub mod stages;
