//! Nodes as operators see them.

use model::Resources;
use serde::Serialize;

use super::super::cluster::{Cluster, Node, NodeState};

/// One node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    /// `ready`, `suspect` or `dead`.
    pub(crate) state: &'static str,
    /// Nothing new is placed on it.
    pub(crate) drained: bool,
    pub(crate) worker: String,
    /// Admin address of its worker, while that is connected.
    pub(crate) worker_admin: Option<String>,
    pub(crate) capacity: Resources,
    pub(crate) reserved: Resources,
    pub(crate) sandboxes: usize,
}

pub(in crate::state) fn list_nodes(cluster: &Cluster) -> Vec<NodeView> {
    let view = |(key, node): (_, &Node)| NodeView {
        name: node.name.to_string(),
        state: node_state_name(node.state()),
        drained: node.is_drained(),
        worker: node.worker().to_string(),
        worker_admin: worker_admin(cluster, node),
        capacity: node.capacity(),
        reserved: cluster.tables.nodes.pool().reserved(key).unwrap_or_default(),
        sandboxes: node.sandboxes().len(),
    };
    cluster.tables.nodes.iter().map(view).collect()
}

/// The address of the admin pages of a node's worker, while that is connected and has some.
pub(super) fn worker_admin(cluster: &Cluster, node: &Node) -> Option<String> {
    let worker = node.session().and_then(|session| cluster.workers.get(session))?;
    worker.admin.map(|admin| admin.to_string())
}

pub(super) fn node_state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Ready => "ready",
        NodeState::Suspect => "suspect",
        NodeState::Dead => "dead",
    }
}
