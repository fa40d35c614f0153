//! The state as operators see it. These are the JSON documents of the HTTP interface.

use std::{cell::LazyCell, ops::Deref};

use model::{FunctionSpec, Resources};
use serde::Serialize;

use super::{
    Cluster, Now, State, function::Function, node::NodeState, offer::Offer, sandbox::SandboxState, totals::Totals,
};

/// Endpoints shown with one function; the counts tell of the rest.
const MAX_ENDPOINTS: usize = 1000;

/// One function.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FunctionView {
    /// Which registration.
    pub(crate) id: u64,
    /// Which version of it.
    pub(crate) revision: u64,
    /// What was asked for.
    pub(crate) spec: FunctionSpec,
    /// Sandboxes wanted.
    pub(crate) desired: u32,
    /// Sandboxes in service.
    pub(crate) ready: u32,
    /// Sandboxes being made.
    pub(crate) starting: u32,
    /// Sandboxes suspended, draining or being ended.
    pub(crate) leaving: u32,
    /// Invocations waiting for a slot, as last reported.
    pub(crate) waiting: u32,
    /// Invocations running, as last reported.
    pub(crate) running: u32,
    /// Creations that failed, and sandboxes that did soon after they were ready, since one lasted.
    pub(crate) failures: u32,
    /// The newest failure, or what a creation waits for: room, or what its node lacks, in words.
    pub(crate) last_error: Option<String>,
    /// Its sandboxes, oldest first; empty in lists.
    pub(crate) endpoints: Vec<EndpointView>,
}

/// One sandbox.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndpointView {
    pub(crate) sandbox: String,
    pub(crate) node: String,
    pub(crate) address: Option<String>,
    /// `starting`, `ready`, `suspended`, `draining` or `deleting`.
    pub(crate) state: &'static str,
    /// Who holds its slots.
    pub(crate) data_plane: Option<String>,
    /// Where its worker's pages are, for example its log.
    pub(crate) worker_admin: Option<String>,
}

/// One node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    /// `ready`, `suspect` or `dead`.
    pub(crate) state: &'static str,
    /// Nothing new is placed on it.
    pub(crate) drained: bool,
    pub(crate) worker: String,
    /// Where its worker's pages are, while it is connected.
    pub(crate) worker_admin: Option<String>,
    pub(crate) capacity: Resources,
    pub(crate) reserved: Resources,
    pub(crate) sandboxes: usize,
}

/// The cluster in numbers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClusterView {
    pub(crate) cluster: String,
    pub(crate) epoch: u32,
    pub(crate) leader: bool,
    /// Whether the state has been rebuilt after the last start.
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

impl Cluster {
    pub(super) fn view_function(&self, function: &Function) -> FunctionView {
        let endpoints = function.sandboxes.iter().take(MAX_ENDPOINTS).filter_map(|id| {
            let sandbox = self.sandboxes.get(id)?;
            let node = self.nodes.get(sandbox.node);
            let holder = sandbox.grant.and_then(|grant| self.data_planes.get(grant.data_plane));
            Some(EndpointView {
                sandbox: id.to_string(),
                node: node.name.to_string(),
                address: sandbox.address.map(|address| address.to_string()),
                state: sandbox_state_name(sandbox.state),
                data_plane: holder.map(|known| known.id.to_string()),
                worker_admin: self.worker_admin(node),
            })
        });
        FunctionView {
            endpoints: endpoints.collect(),
            ..self.view_summary(function, &LazyCell::new(|| self.nodes.offer()))
        }
    }

    fn view_summary(&self, function: &Function, offer: &impl Deref<Target = Offer>) -> FunctionView {
        let demand = function.demand();
        FunctionView {
            id: function.registered.id.0,
            revision: function.registered.revision.0,
            spec: function.registered.spec.clone(),
            desired: function.desired,
            ready: function.ready,
            starting: function.starting,
            leaving: function.leaving(),
            waiting: demand.waiting,
            running: demand.running,
            failures: function.backoff.failures,
            last_error: self.last_error(function, offer),
            endpoints: Vec::new(),
        }
    }

    /// What keeps a function from having more sandboxes, or went wrong last with it, in words. `offer` is looked at where that
    /// is a lack of room only.
    pub(super) fn last_error(&self, function: &Function, offer: &impl Deref<Target = Offer>) -> Option<String> {
        match &function.backoff {
            _ if function.unfit.is_some() => function.unfit.clone(),
            backoff if backoff.found_no_room => Some(offer.no_room(function.registered.spec.resources())),
            backoff => self.why_one_waits(function).or_else(|| backoff.last_error.clone()),
        }
    }

    /// What one of its newest creations waits for, if not for its turn.
    fn why_one_waits(&self, function: &Function) -> Option<String> {
        if function.starting == 0 {
            return None;
        }
        let mut newest = function.sandboxes.iter().rev().take(MAX_ENDPOINTS).filter_map(|id| self.sandboxes.get(id));
        newest.find_map(|sandbox| {
            let cause = sandbox.queued_for.as_ref().filter(|_| sandbox.state == SandboxState::Starting)?;
            Some(format!("a creation on node {} waits: {cause}", self.nodes.get(sandbox.node).name))
        })
    }

    fn worker_admin(&self, node: &super::node::Node) -> Option<String> {
        let worker = node.session.and_then(|session| self.workers.get(session))?;
        Some(worker.admin.to_string()).filter(|admin| !admin.is_empty())
    }

    pub(super) fn view_nodes(&self) -> Vec<NodeView> {
        let view = |(key, node): (_, &super::node::Node)| NodeView {
            name: node.name.to_string(),
            state: node_state_name(node.state),
            drained: node.drained,
            worker: node.worker.to_string(),
            worker_admin: self.worker_admin(node),
            capacity: node.capacity,
            reserved: self.nodes.pool.reserved(key).unwrap_or_default(),
            sandboxes: node.sandboxes.len(),
        };
        self.nodes.iter().map(view).collect()
    }
}

impl State {
    pub(super) fn list_functions(&self, after: Option<&str>, limit: usize) -> Vec<FunctionView> {
        let registered = self.registry.functions_after(after);
        let functions = registered.filter_map(|registered| self.cluster.functions.get(registered.id));
        let offer = LazyCell::new(|| self.cluster.nodes.offer());
        functions.take(limit).map(|function| self.cluster.view_summary(function, &offer)).collect()
    }

    pub(super) fn view_cluster(&self, now: Now) -> ClusterView {
        let nodes = |state| self.cluster.nodes.iter().filter(|(_, node)| node.state == state).count();
        debug_assert_eq!(
            self.cluster.totals,
            self.cluster.count_totals(),
            "what is counted as it changes is what there is"
        );
        let Totals { starting, ready, granted_slots } = self.cluster.totals;
        let demand = self.cluster.total_demand(now);
        let address = |known: &super::data_plane::DataPlane| known.address.map(|address| address.to_string());
        ClusterView {
            cluster: self.term.cluster.to_string(),
            epoch: self.term.epoch.0,
            leader: true,
            recovered: self.is_recovered(),
            uptime_ms: now.ms(),
            functions: self.registry.functions().len(),
            nodes_ready: nodes(NodeState::Ready),
            nodes_suspect: nodes(NodeState::Suspect),
            nodes_dead: nodes(NodeState::Dead),
            workers: self.cluster.workers.len(),
            data_planes: self.cluster.data_planes.connected().filter_map(|(_, _, known)| address(known)).collect(),
            sandboxes_starting: starting,
            sandboxes_ready: ready,
            sandboxes_leaving: self.cluster.sandboxes.len() - starting - ready,
            functions_unschedulable: self.cluster.unschedulable.len(),
            granted_slots,
            waiting: demand.waiting,
            running: demand.running,
        }
    }
}

fn sandbox_state_name(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Starting => "starting",
        SandboxState::Ready => "ready",
        SandboxState::Suspended => "suspended",
        SandboxState::Unclaimed => "unclaimed",
        SandboxState::Draining => "draining",
        SandboxState::Terminating => "deleting",
    }
}

pub(super) fn node_state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Ready => "ready",
        NodeState::Suspect => "suspect",
        NodeState::Dead => "dead",
    }
}
