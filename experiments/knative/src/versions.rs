//! The versions that make up the baseline: those of the published comparison.

/// etcd, as `kubeadm` of this Kubernetes installs it.
pub const ETCD: &str = "3.5.10";
/// Kubernetes: API server, controller manager, scheduler.
pub const KUBERNETES: &str = "1.29.1";
/// Knative Serving: controller, autoscaler, activator, webhook.
pub const KNATIVE: &str = "1.13.1";
/// Knative Serving's Go module: minor version 1.N is v0.(N+27).
pub const SERVING_MODULE: &str = "0.40.1";
/// KWOK, the Kubernetes project's simulator of nodes.
pub const KWOK: &str = "0.5.2";

/// All of them in one line.
#[must_use]
pub fn line() -> String {
    format!("Knative {KNATIVE}, Kubernetes {KUBERNETES}, etcd {ETCD}, KWOK {KWOK}")
}

/// The version that the API server's `/version` must report.
#[must_use]
pub fn git_version() -> String {
    format!("v{KUBERNETES}")
}
