//! One handler for each kind of event. A handler borrows exactly what it may change, so that the compiler enforces who
//! may change what: [`Tables`](super::cluster::Tables) where sandboxes change, which are counted in all of them. Other
//! state is readable through its [`Context`].
//!
//! A handler creates the narrower ones that it needs from its own borrows: [`grant`] and [`backoff`] have the
//! narrowest, then come [`sandbox`], [`creation`], [`recovery`], and [`node`]. The others are created here, each for
//! one input or timer.

mod backoff;
mod creation;
mod data_plane;
mod function;
mod grant;
mod health;
mod join;
mod node;
mod operator;
mod overdue;
mod recovery;
mod revocation;
mod sandbox;
mod scale;
mod worker;

use super::{Context, State, cluster::Cluster};
use crate::now::Now;

pub(crate) use self::operator::{
    Acknowledgement, ChangeOutcome, ImageRefused, PutOutcome, PutResult, Registration, Request,
};
pub(super) use self::{
    creation::Scaler,
    join::{Admitted, Joining},
    operator::{Replies, Waiting},
    overdue::Overdue,
};
use self::{
    data_plane::DataPlaneHandler, function::FunctionHandler, health::HealthHandler, join::JoinHandler,
    node::NodeHandler, operator::OperatorHandler, overdue::OverdueHandler, recovery::RecoveryHandler,
    sandbox::SandboxHandler, scale::ScalingHandler, worker::WorkerHandler,
};

/// The context of an input that `state` handles `now`. A macro, since a function would borrow all of `state`.
macro_rules! context {
    ($state:ident, $now:ident) => {
        Context {
            now: $now,
            settings: &$state.settings,
            term: $state.term,
            registry: &$state.registry,
            metrics: &$state.metrics,
        }
    };
}

impl State {
    pub(super) fn data_plane_handler(&mut self, now: Now) -> DataPlaneHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { tables, data_planes, recent, .. }, recovery, effects, .. } = self;
        DataPlaneHandler { context, tables, data_planes, recent, recovery, effects }
    }

    pub(super) fn function_handler(&mut self, now: Now) -> FunctionHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { tables, data_planes, unschedulable, .. }, effects, .. } = self;
        FunctionHandler { context, tables, data_planes, unschedulable, effects }
    }

    pub(super) fn health_handler(&mut self, now: Now) -> HealthHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, unresponsive_together, effects, .. } = self;
        let Cluster { tables, workers, data_planes, .. } = cluster;
        HealthHandler { context, tables, workers, data_planes, recovery, unresponsive_together, effects }
    }

    pub(super) fn join_handler(&mut self, now: Now) -> JoinHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { tables, workers, data_planes, .. }, joining, effects, .. } = self;
        JoinHandler { context, nodes: &tables.nodes, workers, data_planes, joining, effects }
    }

    pub(super) fn node_handler(&mut self, now: Now) -> NodeHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, unresponsive_together, effects, .. } = self;
        let Cluster { tables, workers, data_planes, .. } = cluster;
        NodeHandler { context, tables, workers, data_planes, recovery, unresponsive_together, effects }
    }

    pub(super) fn operator_handler(&mut self, now: Now) -> OperatorHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, replies, effects, .. } = self;
        OperatorHandler { context, cluster, recovery, replies, effects }
    }

    pub(super) fn overdue_handler(&mut self, now: Now) -> OverdueHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { tables, workers, data_planes, recent, .. }, scaler, overdue, effects, .. } = self;
        OverdueHandler { context, tables, workers, data_planes, recent, scaler, overdue, effects }
    }

    pub(super) fn recovery_handler(&mut self, now: Now) -> RecoveryHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { tables, data_planes, .. }, recovery, effects, .. } = self;
        RecoveryHandler { context, tables, data_planes, recovery, effects }
    }

    pub(super) fn sandbox_handler(&mut self, now: Now) -> SandboxHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { tables, data_planes, .. }, effects, .. } = self;
        SandboxHandler { context, tables, data_planes, effects }
    }

    pub(super) fn scaling_handler(&mut self, now: Now) -> ScalingHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, scaler, effects, .. } = self;
        let Cluster { tables, data_planes, unschedulable, recent, .. } = cluster;
        ScalingHandler { context, tables, data_planes, unschedulable, recovery, recent, scaler, effects }
    }

    pub(super) fn worker_handler(&mut self, now: Now) -> WorkerHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, unresponsive_together, effects, .. } = self;
        let Cluster { tables, workers, data_planes, .. } = cluster;
        WorkerHandler { context, tables, workers, data_planes, recovery, unresponsive_together, effects }
    }
}
