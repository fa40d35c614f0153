//! Hollow nodes as the scheduler sees them: ready, and large enough that capacity is never what limits.

use serde_json::{Value, json};

/// A node called `name`.
#[must_use]
pub fn node(name: &str) -> Value {
    let capacity = json!({ "cpu": "1000", "memory": "4Ti", "pods": "5000", "ephemeral-storage": "4Ti" });
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": { "kwok.x-k8s.io/node": "fake" },
            "labels": { "kubernetes.io/hostname": name, "loader-nodetype": "worker", "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "type": "kwok" },
        },
        "status": { "allocatable": capacity, "capacity": capacity },
    })
}

/// Names of `count` nodes.
pub fn names(count: u32) -> impl Iterator<Item = String> {
    (1..=count).map(|number| format!("hollow-{number}"))
}
