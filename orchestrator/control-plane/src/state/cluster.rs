//! What the control plane believes is there: the tables of functions, sandboxes, nodes and peers, with what is counted of
//! them. What operators see is read from here alone.

use policy::placement;

use model::SandboxId;

use super::{
    Map, activity::Recent, data_plane::DataPlanes, function::Functions, node::Nodes, sandbox::Sandbox, totals::Totals,
    unschedulable::Unschedulable, worker::Workers,
};

/// The tables.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) functions: Functions,
    pub(super) nodes: Nodes,
    /// What placement remembers of the nodes.
    pub(super) placement: placement::Placement,
    pub(super) workers: Workers,
    pub(super) data_planes: DataPlanes,
    pub(super) sandboxes: Map<SandboxId, Sandbox>,
    /// Counts of them.
    pub(super) totals: Totals,
    /// Functions with demand that no node had room for.
    pub(super) unschedulable: Unschedulable,
    /// Functions that did something lately.
    pub(super) recent: Recent,
}
