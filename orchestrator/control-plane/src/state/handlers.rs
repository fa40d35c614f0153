//! One handler for each kind of event. A handler borrows exactly what it may change, so that the compiler enforces who
//! may change what: some tables, or all of them where an event concerns sandboxes, which are counted in several. Other
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
        let Self { cluster, recovery, effects, .. } = self;
        DataPlaneHandler { context, cluster, recovery, effects }
    }

    pub(super) fn function_handler(&mut self, now: Now) -> FunctionHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, effects, .. } = self;
        FunctionHandler { context, cluster, effects }
    }

    pub(super) fn health_handler(&mut self, now: Now) -> HealthHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, unresponsive_together, effects, .. } = self;
        HealthHandler { context, cluster, recovery, unresponsive_together, effects }
    }

    pub(super) fn join_handler(&mut self, now: Now) -> JoinHandler<'_> {
        let context = context!(self, now);
        let Self { cluster: Cluster { nodes, workers, data_planes, .. }, joining, effects, .. } = self;
        JoinHandler { context, nodes, workers, data_planes, joining, effects }
    }

    pub(super) fn node_handler(&mut self, now: Now) -> NodeHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, unresponsive_together, effects, .. } = self;
        NodeHandler { context, cluster, recovery, unresponsive_together, effects }
    }

    pub(super) fn operator_handler(&mut self, now: Now) -> OperatorHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, replies, effects, .. } = self;
        OperatorHandler { context, cluster, recovery, replies, effects }
    }

    pub(super) fn overdue_handler(&mut self, now: Now) -> OverdueHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, scaler, overdue, effects, .. } = self;
        OverdueHandler { context, cluster, scaler, overdue, effects }
    }

    pub(super) fn recovery_handler(&mut self, now: Now) -> RecoveryHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, effects, .. } = self;
        RecoveryHandler { context, cluster, recovery, effects }
    }

    pub(super) fn sandbox_handler(&mut self, now: Now) -> SandboxHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, effects, .. } = self;
        SandboxHandler { context, cluster, effects }
    }

    pub(super) fn scaling_handler(&mut self, now: Now) -> ScalingHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, scaler, effects, .. } = self;
        ScalingHandler { context, cluster, recovery, scaler, effects }
    }

    pub(super) fn worker_handler(&mut self, now: Now) -> WorkerHandler<'_> {
        let context = context!(self, now);
        let Self { cluster, recovery, unresponsive_together, effects, .. } = self;
        WorkerHandler { context, cluster, recovery, unresponsive_together, effects }
    }
}
