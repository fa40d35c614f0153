//! The cluster in numbers.

use serde::Serialize;

use super::super::{
    cluster::{Cluster, DataPlane, NodeState, Totals},
    context::Context,
    recovery::Recovery,
};

/// The cluster in numbers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterView {
    pub(crate) cluster: String,
    pub(crate) epoch: u32,
    pub(crate) leader: bool,
    /// The state has been rebuilt after the last start.
    pub(crate) recovered: bool,
    pub(crate) uptime_ms: u64,
    pub(crate) functions: usize,
    pub(crate) nodes_ready: usize,
    pub(crate) nodes_suspect: usize,
    pub(crate) nodes_dead: usize,
    pub(crate) workers: usize,
    /// Connected data planes: where they take invocations.
    pub(crate) data_planes: Vec<String>,
    pub(crate) sandboxes_starting: usize,
    pub(crate) sandboxes_ready: usize,
    pub(crate) sandboxes_leaving: usize,
    pub(crate) functions_unschedulable: usize,
    /// Slots granted to data planes.
    pub(crate) granted_slots: u64,
    /// Invocations waiting for a slot, as data planes last reported.
    pub(crate) waiting: u32,
    /// Invocations running, as data planes last reported.
    pub(crate) running: u32,
}

pub(in crate::state) fn show_cluster(context: Context<'_>, cluster: &Cluster, recovery: &Recovery) -> ClusterView {
    let nodes = |state| cluster.tables.nodes.iter().filter(|(_, node)| node.state() == state).count();
    let Totals { starting, ready, granted_slots } = cluster.tables.sandboxes.totals();
    let demand = cluster.recent.total_demand(&cluster.tables.functions, context.now);
    let address = |known: &DataPlane| known.address.map(|address| address.to_string());
    ClusterView {
        cluster: context.term.cluster.to_string(),
        epoch: context.term.epoch.0,
        leader: true,
        recovered: recovery.is_finished(),
        uptime_ms: context.now.ms(),
        functions: context.registry.functions().len(),
        nodes_ready: nodes(NodeState::Ready),
        nodes_suspect: nodes(NodeState::Suspect),
        nodes_dead: nodes(NodeState::Dead),
        workers: cluster.workers.len(),
        data_planes: cluster.data_planes.connected().filter_map(|(_, _, known)| address(known)).collect(),
        sandboxes_starting: starting,
        sandboxes_ready: ready,
        sandboxes_leaving: cluster.tables.sandboxes.len() - starting - ready,
        functions_unschedulable: cluster.unschedulable.len(),
        granted_slots,
        waiting: demand.waiting,
        running: demand.running,
    }
}
