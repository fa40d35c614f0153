//! Creates sandboxes: chooses a node, reserves its resources and sends the command.

use std::time::Duration;

use model::{Epoch, FunctionId, SandboxId};
use policy::placement::{NodeKey, Placement, Wanted};
use rand_pcg::Pcg64;
use service::micros;

use super::{
    super::{
        Now,
        cluster::{DataPlanes, Recent, Sandbox, Tables, Timing},
        context::Context,
        effects::{Effects, WorkerChange},
    },
    sandbox::SandboxHandler,
};

/// Between two log lines about a lack of room: while there is none, every decision meets it.
const NO_ROOM_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// State of the decisions on sandboxes besides the tables.
pub(in crate::state) struct Scaler {
    /// Creations dispatched in this epoch so far. The next sandbox's id follows from it.
    pub(in crate::state) sandboxes_commanded: u64,
    /// Per-node data of the placement policies, and their random numbers.
    placement: Placement,
    rng: Pcg64,
    /// Time at which a lack of room was logged last, in microseconds.
    no_room_logged_us: Option<u64>,
}

impl Scaler {
    pub(in crate::state) fn new(seed: u64, epoch: Epoch) -> Self {
        let rng = Pcg64::new(u128::from(seed), u128::from(epoch.0));
        Self { sandboxes_commanded: 0, placement: Placement::default(), rng, no_room_logged_us: None }
    }

    /// Returns true, once in an interval, if a line about a lack of room is to be logged now.
    pub(super) fn may_log_no_room(&mut self, now: Now) -> bool {
        let is_due = |logged_us: u64| now.us >= logged_us.saturating_add(micros(NO_ROOM_LOG_INTERVAL));
        let may_log = self.no_room_logged_us.is_none_or(is_due);
        if may_log {
            self.no_room_logged_us = Some(now.us);
        }
        may_log
    }
}

/// Commands sandboxes.
pub(in crate::state) struct CreationHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recent: &'a mut Recent,
    pub(super) scaler: &'a mut Scaler,
    pub(super) effects: &'a mut Effects,
}

impl CreationHandler<'_> {
    fn sandboxes(&mut self) -> SandboxHandler<'_> {
        SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects)
    }

    /// Places one sandbox and commands its creation. Returns false if no node has room.
    pub(super) fn create(&mut self, id: FunctionId, read_us: u64) -> bool {
        let now = self.context.now;
        let decided_us = now.measured_us();
        let Some(function) = self.tables.functions.known(id) else { return false };
        let spec = &function.registered.spec;
        let avoid = self.tables.avoided(now, id);
        let policy = self.context.settings.placement_for(spec);
        let wanted = Wanted { policy, resources: spec.resources(), avoid: &avoid };
        let Some(node) = self.scaler.placement.choose(self.tables.nodes.pool(), wanted, &mut self.scaler.rng) else {
            return false;
        };
        self.command(id, node, Timing { requested_us: read_us.min(decided_us), decided_us, ..Timing::default() })
    }

    /// Creates a sandbox on `node` in the place of `old`, if there is room. It keeps the time of its request.
    pub(super) fn replace(&mut self, old: SandboxId, node: NodeKey) -> bool {
        let decided_us = self.context.now.measured_us();
        let Some(sandbox) = self.tables.sandboxes.known(old) else { return false };
        let function = sandbox.function();
        let requested_us = sandbox.timing.as_ref().map_or(decided_us, |timing| timing.requested_us);
        let is_commanded = self.command(function, node, Timing { requested_us, decided_us, ..Timing::default() });
        // Only now: the old one is not given up before there is room for its successor.
        if is_commanded {
            self.sandboxes().delete(old);
        }
        is_commanded
    }

    /// Commands the creation of a sandbox on `node`. Returns false if it has no room. `timing` has the times of the
    /// request and of the decision.
    fn command(&mut self, id: FunctionId, node: NodeKey, timing: Timing) -> bool {
        let now = self.context.now;
        let Some(function) = self.tables.functions.known(id) else { return false };
        let registered = function.registered.clone();
        let Some(sandbox) = SandboxId::new(self.context.term.epoch, self.scaler.sandboxes_commanded + 1) else {
            return false;
        };
        let timing = Timing { placed_us: now.measured_us(), ..timing };
        let due_us = now.after(self.context.settings.health.creation_deadline);
        let commanded = Sandbox::commanded(&registered, node, now.us, due_us, timing);
        if !self.tables.add_commanded(sandbox, commanded) {
            return false;
        }
        self.scaler.sandboxes_commanded += 1;
        if let Some(function) = self.tables.functions.known_mut(id) {
            function.backoff.commanded_us = Some(now.us);
            function.backoff.found_no_room = false;
            function.activity.creations = function.activity.creations.saturating_add(1);
        }
        self.recent.note(&mut self.tables.functions, now, id);
        self.context.metrics.creations.inc();
        let node = self.tables.nodes.get(node);
        if let Some(session) = node.session() {
            self.effects.send_to_worker(session, WorkerChange::Create { sandbox, node: node.index(), registered });
        }
        true
    }
}

impl Tables {
    /// Nodes to avoid: those where creations of the function failed lately, and those where creations of several
    /// functions did.
    pub(super) fn avoided(&self, now: Now, id: FunctionId) -> Vec<NodeKey> {
        let of_function = self.functions.known(id).into_iter().flat_map(|function| &function.backoff.avoid);
        let avoided = self.nodes.failing().chain(of_function).filter(|(_, until_us)| now.us < *until_us);
        avoided.map(|(node, _)| *node).collect()
    }
}
