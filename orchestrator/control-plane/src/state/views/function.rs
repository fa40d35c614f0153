//! Functions as operators see them.

use std::{cell::LazyCell, ops::Deref};

use model::FunctionSpec;
use serde::Serialize;

use super::{
    super::{
        cluster::{Cluster, Function, Offer, SandboxState},
        context::Context,
    },
    node::worker_admin,
};

/// Endpoints shown with one function; the counts include the others.
const MAX_ENDPOINTS: usize = 1000;

/// One function.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FunctionView {
    /// The registration.
    pub(crate) id: u64,
    /// Its version, which changes with the specification.
    pub(crate) revision: u64,
    pub(crate) spec: FunctionSpec,
    /// Sandboxes wanted.
    pub(crate) desired: u32,
    /// Sandboxes in service.
    pub(crate) ready: u32,
    /// Sandboxes starting.
    pub(crate) starting: u32,
    /// Sandboxes suspended, draining or terminating.
    pub(crate) leaving: u32,
    /// Invocations waiting for a slot, as last reported.
    pub(crate) waiting: u32,
    /// Invocations running, as last reported.
    pub(crate) running: u32,
    /// Creations that failed, and sandboxes that did soon after they were ready, since one lasted.
    pub(crate) failures: u32,
    /// The newest failure, or the resource that a creation waits for.
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
    /// The data plane that holds its slots.
    pub(crate) data_plane: Option<String>,
    /// Admin address of its worker, for example for its log.
    pub(crate) worker_admin: Option<String>,
}

/// At most `limit` functions after `after` in the order of their names, without endpoints.
pub(in crate::state) fn list_functions(
    context: Context<'_>,
    cluster: &Cluster,
    after: Option<&str>,
    limit: usize,
) -> Vec<FunctionView> {
    let registered = context.registry.functions_after(after);
    let functions = registered.filter_map(|registered| cluster.tables.functions.known(registered.id));
    let offer = LazyCell::new(|| cluster.tables.nodes.offer());
    functions.take(limit).map(|function| summary(cluster, function, &offer)).collect()
}

/// One function with its endpoints.
pub(in crate::state) fn show_function(cluster: &Cluster, function: &Function) -> FunctionView {
    let endpoints = function.sandboxes().iter().take(MAX_ENDPOINTS).filter_map(|id| {
        let sandbox = cluster.tables.sandboxes.known(*id)?;
        let node = cluster.tables.nodes.get(sandbox.node());
        let holder = sandbox.grant().and_then(|grant| cluster.data_planes.get(grant.data_plane));
        Some(EndpointView {
            sandbox: id.to_string(),
            node: node.name.to_string(),
            address: sandbox.address.map(|address| address.to_string()),
            state: sandbox_state_name(sandbox.state()),
            data_plane: holder.map(|known| known.id.to_string()),
            worker_admin: worker_admin(cluster, node),
        })
    });
    FunctionView {
        endpoints: endpoints.collect(),
        ..summary(cluster, function, &LazyCell::new(|| cluster.tables.nodes.offer()))
    }
}

fn summary(cluster: &Cluster, function: &Function, offer: &impl Deref<Target = Offer>) -> FunctionView {
    let demand = function.demand();
    FunctionView {
        id: function.registered.id.0,
        revision: function.registered.revision.0,
        spec: function.registered.spec.clone(),
        desired: function.desired,
        ready: function.ready(),
        starting: function.starting(),
        leaving: function.leaving(),
        waiting: demand.waiting,
        running: demand.running,
        failures: function.backoff.failures,
        last_error: last_error(cluster, function, offer),
        endpoints: Vec::new(),
    }
}

/// The reason why a function has no more sandboxes, or what went wrong last with it. `offer` is evaluated only where that
/// is a lack of room.
pub(super) fn last_error(cluster: &Cluster, function: &Function, offer: &impl Deref<Target = Offer>) -> Option<String> {
    match &function.backoff {
        _ if function.unfit.is_some() => function.unfit.clone(),
        backoff if backoff.found_no_room => Some(offer.no_room(function.registered.spec.resources())),
        backoff => queued_for(cluster, function).or_else(|| backoff.last_error.clone()),
    }
}

/// The resource that one of its newest creations waits for, if one waits for more than its place in the queue.
fn queued_for(cluster: &Cluster, function: &Function) -> Option<String> {
    if function.starting() == 0 {
        return None;
    }
    let newest = function.sandboxes().iter().rev().take(MAX_ENDPOINTS);
    newest.filter_map(|id| cluster.tables.sandboxes.known(*id)).find_map(|sandbox| {
        let cause = sandbox.queued_for.as_ref().filter(|_| sandbox.state() == SandboxState::Starting)?;
        Some(format!("a creation on node {} waits: {cause}", cluster.tables.nodes.get(sandbox.node()).name))
    })
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
