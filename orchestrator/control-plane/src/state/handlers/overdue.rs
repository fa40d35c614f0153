//! Creations that are queued at their worker for longer than one may take.
//!
//! A worker serves the newest first once a wait is long, and in between the oldest of those that have waited for very
//! long. Some of those that later ones overtake restart on a worker that has a shorter queue, until both are as long.
//! Workers that are as busy exchange nothing, and nothing is given up before there is room for its successor.

use std::{collections::BTreeSet, time::Duration};

use model::{FunctionId, Resources, SandboxId};
use policy::placement::NodeKey;
use service::micros;

use super::{
    super::{
        Map, Now, SessionId,
        cluster::{DataPlanes, Functions, Recent, SandboxState, Sandboxes, Tables, Workers},
        context::Context,
        effects::Effects,
    },
    backoff::PACED_FROM,
    creation::{CreationHandler, Scaler},
    sandbox::SandboxHandler,
};

/// Checks in each `creation_deadline`: a creation begins again soon after it was overtaken, and a check goes through all
/// workers and all creations that are overdue.
const OVERDUE_CHECKS: u64 = 4;
/// Most creations that one check restarts, so that it delays other inputs by some milliseconds at most.
const MAX_PER_CHECK: usize = 256;
/// A check that had more to do is continued after this time.
const CONTINUE_AFTER: Duration = Duration::from_millis(100);

/// The creations that should have begun by now.
#[derive(Debug, Default)]
pub(in crate::state) struct Overdue {
    /// Oldest first. One that has begun or ended meanwhile stays until the next check.
    creations: BTreeSet<SandboxId>,
    /// Time of the next check, in microseconds; `None` while there are none.
    check_us: Option<u64>,
    /// Time of the last check, in microseconds.
    checked_us: u64,
}

impl Overdue {
    #[cfg(test)]
    pub(in crate::state) fn contains(&self, id: SandboxId) -> bool {
        self.check_us.is_some() && self.creations.contains(&id)
    }

    /// Time at which [`OverdueHandler::check`] is due, in microseconds.
    pub(in crate::state) fn due_us(&self) -> Option<u64> {
        self.check_us
    }
}

/// The queue of one worker, as a check finds it.
#[derive(Default)]
struct Queue {
    nodes: Vec<NodeKey>,
    /// Position in `nodes` at which the next search for room begins.
    next: usize,
    /// Creations that are not ready.
    starting: u32,
    /// Some of them have waited for too long and were overtaken.
    has_overdue: bool,
    /// Time at which its last creation became ready, and time at which the newest of those was dispatched, in
    /// microseconds.
    last_ready_us: Option<u64>,
    newest_ready_us: Option<u64>,
    /// Its overdue creations that this check lets begin again elsewhere.
    moved: u32,
}

impl Queue {
    /// Returns true if none of its creations has become ready for the longest time that one may take.
    fn is_stuck(&self, now: Now, deadline_us: u64) -> bool {
        self.last_ready_us.unwrap_or(0).saturating_add(deadline_us) <= now.us
    }

    /// Returns true if a creation that should have begun by `queued_until_us` is overtaken here.
    fn passes_over(&self, now: Now, queued_until_us: u64, deadline_us: u64) -> bool {
        self.newest_ready_us > Some(queued_until_us) || self.is_stuck(now, deadline_us)
    }
}

/// The queues of all workers.
struct Queues {
    by_session: Map<SessionId, Queue>,
    /// The shortest first.
    by_length: BTreeSet<(u32, SessionId)>,
    /// Sizes of sandboxes that found no place in this check, by the worker they would leave. Others like them are not
    /// tried.
    unplaceable: Map<SessionId, Vec<Resources>>,
    deadline_us: u64,
}

impl Queues {
    /// Returns true if a creation that should have begun by `queued_until_us` is overtaken at a worker.
    fn passes_over(&self, now: Now, source: SessionId, queued_until_us: u64) -> bool {
        let queue = self.by_session.get(&source);
        queue.is_some_and(|queue| queue.passes_over(now, queued_until_us, self.deadline_us))
    }

    /// The best place where a creation that is overdue at `source` may begin again, of the nodes that can have it.
    fn place(&self, now: Now, source: SessionId, can_have: impl Fn(NodeKey) -> bool) -> Option<(SessionId, NodeKey)> {
        let queue = self.by_session.get(&source)?;
        let is_stuck = queue.is_stuck(now, self.deadline_us);
        let is_better = |session: SessionId, starting: u32| {
            let other = self.by_session.get(&session).filter(|_| session != source);
            other.is_some_and(|other| match (is_stuck, other.has_overdue) {
                (true, has_overdue) => !has_overdue || !other.is_stuck(now, self.deadline_us),
                (false, false) => starting + 1 < queue.starting,
                // Never both ways between two.
                (false, true) => starting.saturating_mul(2) + 1 < queue.starting,
            })
        };
        let others = self.by_length.iter().filter(|(starting, session)| is_better(*session, *starting));
        let nodes = |session: SessionId| self.nodes_of(session).map(move |node| (session, node));
        others.flat_map(|(_, session)| nodes(*session)).find(|(_, node)| can_have(*node))
    }

    /// The nodes of a worker, beginning with the next one.
    fn nodes_of(&self, session: SessionId) -> impl Iterator<Item = NodeKey> {
        let queue = self.by_session.get(&session);
        let (nodes, next) = queue.map_or((&[][..], 0), |queue| (queue.nodes.as_slice(), queue.next));
        nodes.iter().cycle().skip(next).take(nodes.len()).copied()
    }

    /// The next search for room begins with the node after.
    fn pass_node(&mut self, session: SessionId) {
        if let Some(queue) = self.by_session.get_mut(&session) {
            queue.next = (queue.next + 1) % queue.nodes.len().max(1);
        }
    }

    /// A creation of `source` has begun again at `target`.
    fn note_begun(&mut self, source: SessionId, target: SessionId) {
        let from = self.by_session.entry(source).or_default();
        self.by_length.remove(&(from.starting, source));
        (from.starting, from.moved) = (from.starting.saturating_sub(1), from.moved + 1);
        self.by_length.insert((from.starting, source));
        let to = self.by_session.entry(target).or_default();
        self.by_length.remove(&(to.starting, target));
        to.starting += 1;
        self.by_length.insert((to.starting, target));
    }

    /// Logs one line for each worker whose creations have begun again elsewhere.
    fn log_begun_again(&self, workers: &Workers) {
        for (session, queue) in self.by_session.iter().filter(|(_, queue)| queue.moved > 0) {
            let Queue { moved, starting, .. } = queue;
            let worker = workers.get(*session).map_or("", |worker| &*worker.name);
            tracing::info!(worker, moved, starting, "creations that did not get their turn begin again");
        }
    }
}

impl Sandboxes {
    /// The worker at which a creation waits for others, and by when it should have begun, in microseconds.
    fn queued_since(&self, id: SandboxId) -> Option<(NodeKey, u64)> {
        let sandbox = self.get(id).filter(|sandbox| sandbox.state() == SandboxState::Starting)?;
        Some((sandbox.node(), sandbox.queued_until_us?))
    }
}

impl Functions {
    /// Returns true if a creation of a function may begin again elsewhere, given a place. While its creations are
    /// paced, there is one at a time, which is the one in question.
    fn may_create(&self, now: Now, id: FunctionId) -> bool {
        self.get(id).is_some_and(|function| {
            let backoff = &function.backoff;
            let is_paced = backoff.failures >= PACED_FROM && function.starting() > 1;
            !function.removed && function.unfit.is_none() && now.us >= backoff.not_before_us && !is_paced
        })
    }
}

impl Tables {
    /// The place where a creation of a function that is overdue at `source` may begin again.
    fn place_elsewhere(
        &self,
        now: Now,
        source: SessionId,
        id: FunctionId,
        queues: &mut Queues,
    ) -> Option<(SessionId, NodeKey)> {
        let function = self.functions.get(id)?;
        let resources = function.registered.spec.resources();
        if queues.unplaceable.get(&source).is_some_and(|sizes| sizes.contains(&resources)) {
            return None;
        }
        let (pool, avoided) = (self.nodes.pool(), self.avoided(now, id));
        let place = queues.place(now, source, |node| {
            pool.is_open(node) && pool.has_room(node, resources) && !avoided.contains(&node)
        });
        // Another function may have a place on the nodes that this one avoids.
        if place.is_none() && function.backoff.avoid.iter().all(|(_, until_us)| *until_us <= now.us) {
            queues.unplaceable.entry(source).or_default().push(resources);
        }
        place
    }
}

/// Restarts overdue creations.
pub(in crate::state) struct OverdueHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) tables: &'a mut Tables,
    pub(super) workers: &'a Workers,
    pub(super) data_planes: &'a mut DataPlanes,
    pub(super) recent: &'a mut Recent,
    pub(super) scaler: &'a mut Scaler,
    pub(super) overdue: &'a mut Overdue,
    pub(super) effects: &'a mut Effects,
}

impl OverdueHandler<'_> {
    fn creations(&mut self) -> CreationHandler<'_> {
        CreationHandler {
            context: self.context,
            tables: self.tables,
            data_planes: self.data_planes,
            recent: self.recent,
            scaler: self.scaler,
            effects: self.effects,
        }
    }

    /// A creation took too long. If it has begun, it is given up and counts as failed; if it is still queued behind
    /// others, its function and its node are not to blame.
    pub(in crate::state) fn on_creation_deadline(&mut self, id: SandboxId) {
        let Some(sandbox) = self.tables.sandboxes.known(id) else { return };
        debug_assert_eq!(sandbox.state(), SandboxState::Starting, "the timer goes with the state");
        if sandbox.queued_until_us.is_some() {
            return self.note_overdue(id);
        }
        let deadline = self.context.settings.health.creation_deadline;
        let mut sandboxes = SandboxHandler::of(self.context, self.tables, self.data_planes, self.effects);
        sandboxes.give_up_creation(id, format!("it was not ready within {deadline:?}"));
    }

    /// A creation should have begun by now: it is checked with the others of its kind from now on.
    fn note_overdue(&mut self, sandbox: SandboxId) {
        let next_us = self.overdue.checked_us.saturating_add(self.overdue_period_us());
        self.overdue.creations.insert(sandbox);
        self.overdue.check_us.get_or_insert(next_us.max(self.context.now.us));
    }

    fn overdue_period_us(&self) -> u64 {
        (micros(self.context.settings.health.creation_deadline) / OVERDUE_CHECKS).max(1)
    }

    /// Creations that should have begun continue to wait while others of their worker become ready that were dispatched
    /// before that time: those do not become more, so each is served in whatever order. Those that a later one has
    /// overtaken restart, the oldest first, where that helps: on a worker with a shorter queue, half as long if
    /// creations are overtaken there too. If none becomes ready for as long as a creation may take, they move to any
    /// worker where that is otherwise. Each restarts once in such a time at most, without blame or back-off, and only
    /// where there is room for it. The others are served where they are: their worker gives every second permit to the
    /// oldest.
    pub(in crate::state) fn check(&mut self) {
        let now = self.context.now;
        let mut overdue = std::mem::take(&mut self.overdue.creations);
        overdue.retain(|id| self.tables.sandboxes.queued_since(*id).is_some());
        let mut queues = self.queues(&overdue);
        let mut left = MAX_PER_CHECK;
        for id in &overdue {
            if left > 0 && self.begin_again(*id, &mut queues) {
                left -= 1;
            }
        }
        overdue.retain(|id| self.tables.sandboxes.queued_since(*id).is_some());
        queues.log_begun_again(self.workers);
        let pause_us = if left == 0 { micros(CONTINUE_AFTER) } else { self.overdue_period_us() };
        let check_us = (!overdue.is_empty()).then_some(now.us.saturating_add(pause_us));
        *self.overdue = Overdue { creations: overdue, check_us, checked_us: now.us };
    }

    fn queues(&self, overdue: &BTreeSet<SandboxId>) -> Queues {
        let now = self.context.now;
        let deadline_us = micros(self.context.settings.health.creation_deadline);
        let mut by_session: Map<SessionId, Queue> = Map::default();
        for (session, worker) in self.workers.iter() {
            let mut queue = Queue { nodes: worker.nodes.clone(), ..Queue::default() };
            for node in worker.nodes.iter().map(|key| self.tables.nodes.get(*key)) {
                queue.starting += node.starting();
                queue.last_ready_us = queue.last_ready_us.max(node.ready_us);
                queue.newest_ready_us = queue.newest_ready_us.max(node.newest_ready_us);
            }
            by_session.insert(session, queue);
        }
        for id in overdue {
            let Some((node, queued_until_us)) = self.tables.sandboxes.queued_since(*id) else { continue };
            let session = self.tables.nodes.get(node).session();
            if let Some(queue) = session.and_then(|session| by_session.get_mut(&session)) {
                queue.has_overdue |= queue.passes_over(now, queued_until_us, deadline_us);
            }
        }
        let by_length = by_session.iter().map(|(session, queue)| (queue.starting, *session)).collect();
        Queues { by_session, by_length, unplaceable: Map::default(), deadline_us }
    }

    /// Restarts an overdue creation elsewhere, if it was overtaken and there is a place where that helps. It keeps the
    /// time of its request.
    fn begin_again(&mut self, old: SandboxId, queues: &mut Queues) -> bool {
        let now = self.context.now;
        let Some((node, queued_until_us)) = self.tables.sandboxes.queued_since(old) else { return false };
        let Some(source) = self.tables.nodes.get(node).session() else { return false };
        let is_passed = queues.passes_over(now, source, queued_until_us);
        let Some(id) = self.tables.sandboxes.function_of(old) else { return false };
        if !is_passed || now.us < queued_until_us || !self.tables.functions.may_create(now, id) {
            return false;
        }
        let Some((target, node)) = self.tables.place_elsewhere(now, source, id, queues) else { return false };
        queues.pass_node(target);
        let has_begun = self.creations().replace(old, node);
        if has_begun {
            queues.note_begun(source, target);
        }
        has_begun
    }
}
