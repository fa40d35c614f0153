//! The response to `GET /v1/top`: counts since this control plane began. Rates are differences between two responses.

use std::{cell::LazyCell, ops::Deref};

use serde::Serialize;
use service::Histogram;

use super::{
    super::{
        cluster::{Cluster, Function, Node, NodeState, Offer},
        context::Context,
        recovery::Recovery,
    },
    cluster::{ClusterView, show_cluster},
    function::last_error,
    node::node_state_name,
};

/// Nodes shown: the most loaded ones show whether there is room.
const MAX_NODES: usize = 10;

/// A snapshot of what the cluster is busy with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopView {
    /// Its time, in microseconds of the control plane's clock.
    pub(crate) at_us: u64,
    pub(crate) cluster: ClusterView,
    /// The most active first.
    pub(crate) functions: Vec<TopFunction>,
    /// The most loaded first.
    pub(crate) nodes: Vec<TopNode>,
    pub(crate) phases: Vec<TopPhase>,
}

/// One function. What is counted never decreases while the epoch and the id stay the same.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopFunction {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Counted: invocations that data planes have reported, and those of them that were cold starts.
    pub(crate) invocations: u64,
    pub(crate) invocations_cold: u32,
    /// Counted: creations started, and those that failed.
    pub(crate) creations: u32,
    pub(crate) creations_failed: u32,
    /// Gauges: as of now, or as last reported.
    pub(crate) ready: u32,
    pub(crate) starting: u32,
    pub(crate) leaving: u32,
    pub(crate) waiting: u32,
    pub(crate) running: u32,
    pub(crate) last_error: Option<String>,
}

/// One node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopNode {
    pub(crate) name: String,
    /// `ready`, `suspect` or `dead`.
    pub(crate) state: &'static str,
    /// The greater of the shares of CPU and memory that are reserved, 0 to 1.
    pub(crate) reserved_share: f64,
    pub(crate) sandboxes: usize,
}

/// One phase of creations.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TopPhase {
    pub(crate) phase: &'static str,
    /// Counted: creations that reached it, and how long it took them together.
    pub(crate) count: u64,
    pub(crate) sum_us: u64,
    /// Counted: creations by how long it took them at most (`null`: longer than any bound). Empty ones are left out.
    pub(crate) buckets: Vec<TopBucket>,
}

/// Creations whose phase took longer than the bucket before, and at most this long.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TopBucket {
    pub(crate) most_us: Option<u64>,
    pub(crate) count: u64,
}

pub(in crate::state) fn show_top(
    context: Context<'_>,
    cluster: &Cluster,
    recovery: &Recovery,
    limit: usize,
) -> TopView {
    let offer = LazyCell::new(|| cluster.tables.nodes.offer());
    let functions = cluster.recent.most_active(&cluster.tables.functions, context.registry, context.now, limit);
    TopView {
        at_us: context.now.us,
        cluster: show_cluster(context, cluster, recovery),
        functions: functions.into_iter().map(|function| top_function(cluster, function, &offer)).collect(),
        nodes: most_loaded(cluster),
        phases: context.metrics.observed.phases().map(top_phase).collect(),
    }
}

fn top_function(cluster: &Cluster, function: &Function, offer: &impl Deref<Target = Offer>) -> TopFunction {
    let (demand, activity) = (function.demand(), function.activity);
    TopFunction {
        id: function.registered.id.0,
        name: function.registered.spec.name.to_string(),
        invocations: activity.invocations,
        invocations_cold: activity.cold,
        creations: activity.creations,
        creations_failed: activity.creations_failed,
        ready: function.ready(),
        starting: function.starting(),
        leaving: function.leaving(),
        waiting: demand.waiting,
        running: demand.running,
        last_error: last_error(cluster, function, offer),
    }
}

fn most_loaded(cluster: &Cluster) -> Vec<TopNode> {
    let share = |key, node: &Node| {
        let reserved = cluster.tables.nodes.pool().reserved(key).unwrap_or_default();
        let of = |part: u64, whole: u64| {
            #[allow(clippy::cast_precision_loss, reason = "a share for people")]
            let share = part as f64 / whole.max(1) as f64;
            share
        };
        let cpu = of(reserved.cpu_millicores, node.capacity().cpu_millicores);
        cpu.max(of(reserved.memory_mib, node.capacity().memory_mib))
    };
    let mut nodes: Vec<_> = cluster.tables.nodes.iter().map(|(key, node)| (share(key, node), node)).collect();
    // Nodes out of service come before full ones.
    nodes.sort_by(|(one_share, one), (other_share, other)| {
        let in_service = |node: &Node| node.state() == NodeState::Ready;
        in_service(one).cmp(&in_service(other)).then(other_share.total_cmp(one_share)).then(one.name.cmp(&other.name))
    });
    let view = |(reserved_share, node): (f64, &Node)| TopNode {
        name: node.name.to_string(),
        state: node_state_name(node.state()),
        reserved_share,
        sandboxes: node.sandboxes().len(),
    };
    nodes.into_iter().take(MAX_NODES).map(view).collect()
}

fn top_phase((phase, histogram): (&'static str, &Histogram)) -> TopPhase {
    let filled = histogram.filled();
    TopPhase {
        phase,
        count: filled.iter().map(|(_, count)| count).sum(),
        sum_us: histogram.sum_us(),
        buckets: filled.into_iter().map(|(most_us, count)| TopBucket { most_us, count }).collect(),
    }
}
