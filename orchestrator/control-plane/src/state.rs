//! All that the control plane knows and decides: one plain value with one owner.
//!
//! Each input is handled by a synchronous method that leaves a list of effects. Nothing here waits, does I/O, or reads
//! a clock, so every decision can be tested without a network.

mod activity;
mod adoption;
mod cluster;
mod committed;
mod data_plane;
mod effect;
mod failure;
mod function;
mod grant;
mod health;
mod input;
mod join;
mod node;
mod offer;
mod operator;
mod overdue;
mod recovery;
mod reply;
mod revocation;
mod sandbox;
mod scale;
mod silence;
mod timer;
mod top;
mod totals;
mod touched;
mod unschedulable;
mod view;
mod worker;
mod worker_load;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use model::{ClusterId, Epoch};
use policy::{
    autoscale,
    placement::{self, NodeKey},
};
use rand_pcg::Pcg64;
use rustc_hash::FxBuildHasher;

use self::{
    cluster::Cluster, join::Joining, operator::PendingReply, overdue::Overdue, recovery::Recovery, timer::Timers,
    touched::Touched,
};
pub(crate) use self::{
    effect::{DataPlaneChange, Effect, WorkerChange},
    input::{Input, Origin, SessionId, TimedEvent, TimedMessage},
    operator::{Acknowledgement, ChangeOutcome, ImageRefused, PutOutcome, PutResult, Registration, Request},
    reply::Reply,
    sandbox::Timing,
    top::TopView,
    view::{ClusterView, FunctionView, NodeView},
};
use crate::{clock::Now, config::Health, metrics::Metrics, registry::Registry};

/// A map with a fixed hash function, so that a seed replays a run exactly. Its keys are ids and names that operators
/// choose, never clients.
pub(crate) type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// What the state is told once.
pub(crate) struct Settings {
    pub(crate) autoscale: &'static autoscale::Policy,
    pub(crate) placement: &'static placement::Policy,
    pub(crate) health: Health,
    /// Where workers may send heartbeats as datagrams; 0: nowhere.
    pub(crate) heartbeat_port: u16,
    /// Whether anybody wants to read how each creation went.
    pub(crate) records: bool,
}

/// Which control plane this is: what every peer is told first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: Epoch,
    /// Tells the epoch from those of its number that copies of the log may have.
    pub(crate) nonce: u64,
}

/// The control plane's state.
pub(crate) struct State {
    settings: Settings,
    term: Term,
    registry: Registry,
    /// Sandboxes commanded in this epoch so far.
    sandboxes_commanded: u64,
    cluster: Cluster,
    /// Peers that are not let in yet.
    joining: Joining,
    /// Creations that wait for longer than one may take.
    overdue: Overdue,
    /// When it was last logged that there is no room, in microseconds.
    no_room_logged_us: Option<u64>,
    timers: Timers,
    /// What is to be decided on before this input is over.
    touched: Touched,
    recovery: Recovery,
    /// Nodes that are silent together, so many that the cause may be here.
    silent_together: BTreeSet<NodeKey>,
    /// Registrations that are durable and wait for data planes to know of them, oldest first.
    replies: VecDeque<PendingReply>,
    rng: Pcg64,
    metrics: Arc<Metrics>,
    effects: Vec<Effect>,
}

impl State {
    pub(crate) fn new(settings: Settings, term: Term, seed: u64, metrics: Arc<Metrics>) -> Self {
        Self {
            settings,
            term,
            registry: Registry::default(),
            sandboxes_commanded: 0,
            cluster: Cluster::default(),
            joining: Joining::default(),
            overdue: Overdue::default(),
            no_room_logged_us: None,
            timers: Timers::default(),
            touched: Touched::default(),
            recovery: Recovery::default(),
            silent_together: BTreeSet::new(),
            replies: VecDeque::new(),
            rng: Pcg64::new(u128::from(seed), u128::from(term.epoch.0)),
            metrics,
            effects: Vec::new(),
        }
    }

    /// Handles one input; what is to be done about it waits in [`State::take_effects`].
    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        self.note_clock_jump(now);
        match input {
            Input::WorkerJoined { session, hello } => self.worker_joined(now, session, hello),
            Input::WorkerLeaves { session } => self.worker_leaves(session),
            Input::WorkerLeft { session } => self.worker_left(now, session),
            Input::Heartbeats { heard } => {
                heard.iter().for_each(|(worker, at_us)| self.on_heartbeat(now, worker, *at_us))
            }
            Input::SandboxEvents { session, events, read_us } => self.sandbox_events(now, session, events, read_us),
            Input::DataPlaneJoined { session, hello } => self.data_plane_joined(now, session, hello),
            Input::DataPlaneLeft { session } => self.data_plane_left(now, session),
            Input::FromDataPlane { session, said } => self.on_data_plane_message(now, session, said),
            Input::Request(request) => self.request(now, request),
            Input::Committed { first, commands } => self.committed(now, first, commands),
            Input::Time => {}
        }
        // Room that this input made goes to whose turn it is, before functions whose timers happen to be due are decided on.
        self.decide_touched(now);
        self.run_timers(now);
        self.decide_touched(now);
    }

    /// What is to be done, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
