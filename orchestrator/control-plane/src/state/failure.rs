//! Creations that fail, and sandboxes that end or break soon after they were ready, which is the same to whoever waits:
//! the next attempt comes later and elsewhere.

use std::time::Duration;

use api::wire;
use model::{FunctionId, SandboxId};
use policy::placement::NodeKey;

use super::{
    Now, State,
    data_plane::DataPlaneKey,
    grant::micros,
    sandbox::{Sandbox, Standing},
    timer::SandboxTimer,
};

/// First wait after a failed creation; it doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// Longest wait between attempts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
/// Attempts before a permanent failure is believed and waiting invocations are told.
const PERMANENT_AFTER: u32 = 3;
/// Nodes that failed a function, or where its creation did not get its turn, and that are avoided for its next sandboxes.
const AVOIDED_NODES: usize = 4;
/// For how long such a node is avoided: then it is tried once more.
const AVOIDED_FOR: Duration = Duration::from_secs(30);
/// A sandbox that has been ready for so long was a success: the longest back-off, so that a function whose sandboxes
/// live shorter never comes out of it.
const PROVEN_AFTER: Duration = LONGEST_BACK_OFF;
/// From so many failures on one sandbox is made at a time, and no sooner after the one before than [`PACE`]: more of
/// them would most likely fail as well.
const PACED_FROM: u32 = 5;
/// See [`PACED_FROM`].
const PACE: Duration = Duration::from_secs(1);
/// Looks in each `creation_deadline` at a creation that has waited longer than that for others: it then begins anew soon
/// after it was overtaken, and thousands that wait are still few looks a second.
const OVERDUE_CHECKS: u64 = 4;

/// Creations of one worker that have become ready.
#[derive(Default)]
struct ReadyOfWorker {
    /// When the last one became ready, in microseconds.
    last_us: u64,
    /// When the newest one was commanded, in microseconds.
    newest_us: u64,
}

impl State {
    /// Takes note of a failed creation: the next attempt waits, and goes elsewhere.
    pub(super) fn creation_failed(&mut self, now: Now, sandbox: SandboxId, failure: wire::CreationFailed) {
        let Some(failed) = self.sandboxes.get(&sandbox) else { return };
        let (id, node, was_wanted) = (failed.function, failed.node, failed.standing == Standing::Starting);
        self.forget_sandbox(sandbox, "failed");
        if was_wanted {
            tracing::warn!(%sandbox, cause = failure.message, "a creation failed");
            self.blame_node(now, id, node);
            self.note_failure(now, id, node, failure);
            self.decide(now, id, now.us);
        }
    }

    /// A creation waits for others of its worker, or begins: its time counts from then.
    pub(super) fn creation_progressed(&mut self, now: Now, sandbox: SandboxId, queued: bool) {
        let starting = |found: &&mut Sandbox| found.standing == Standing::Starting;
        let Some(found) = self.sandboxes.get_mut(&sandbox).filter(starting) else { return };
        self.timers.forget(found.creation_due_us, sandbox, SandboxTimer::Creation);
        found.creation_due_us = now.us + micros(self.settings.health.creation_deadline);
        found.queued_until_us = queued.then_some(found.creation_due_us);
        self.timers.watch(found.creation_due_us, sandbox, SandboxTimer::Creation);
    }

    /// A worker that connects says where a creation stands: what it said of that before may have been lost.
    pub(super) fn creation_found(&mut self, now: Now, sandbox: SandboxId, queued: bool) {
        let believed = self.sandboxes.get(&sandbox).map(|found| found.queued_until_us.is_some());
        if believed.is_some_and(|believed| believed != queued) {
            self.creation_progressed(now, sandbox, queued);
        }
    }

    /// A creation took too long. One that has begun is given up, and counts as failed; one that still waits for others says
    /// nothing about its function or its node.
    pub(super) fn creation_overdue(&mut self, now: Now, sandbox: SandboxId) {
        let starting = |found: &&mut Sandbox| found.standing == Standing::Starting;
        let Some(overdue) = self.sandboxes.get_mut(&sandbox).filter(starting) else { return };
        if let Some(queued_until_us) = overdue.queued_until_us {
            return self.queued_too_long(now, sandbox, queued_until_us);
        }
        self.give_up_creation(
            now,
            sandbox,
            format!("it was not ready within {:?}", self.settings.health.creation_deadline),
        );
    }

    /// A creation should have begun by `queued_until_us`. It goes on to wait while others of its worker become ready that were
    /// commanded before that time: those do not become more, so it gets its turn in whatever order they get theirs. Where a
    /// later one has overtaken it, or none becomes ready for as long as a creation may take, it begins anew: elsewhere if
    /// another node has room, else as the newest of its node. That is once in such a time at most, and costs no work.
    fn queued_too_long(&mut self, now: Now, sandbox: SandboxId, queued_until_us: u64) {
        let Some((id, node)) = self.sandboxes.get(&sandbox).map(|overdue| (overdue.function, overdue.node)) else {
            return;
        };
        let deadline_us = micros(self.settings.health.creation_deadline);
        let ReadyOfWorker { last_us, newest_us } = self.ready_of_worker(node);
        let moves_until_us = last_us + deadline_us;
        if moves_until_us > now.us && newest_us <= queued_until_us {
            let due_us = moves_until_us.min(now.us + (deadline_us / OVERDUE_CHECKS).max(1));
            if let Some(overdue) = self.sandboxes.get_mut(&sandbox) {
                overdue.creation_due_us = due_us;
            }
            return self.timers.watch(due_us, sandbox, SandboxTimer::Creation);
        }
        tracing::info!(%sandbox, node = %self.nodes.get(node).name, "a creation that did not get its turn begins anew");
        self.delete_sandbox(sandbox);
        self.avoid_node(now, id, node);
        self.decide(now, id, now.us);
    }

    /// What has become ready on the nodes of a node's worker, which has one queue for them all.
    fn ready_of_worker(&self, node: NodeKey) -> ReadyOfWorker {
        let worker = self.nodes.get(node).session.and_then(|session| self.workers.get(session));
        let nodes = worker.map_or(std::slice::from_ref(&node), |worker| &worker.nodes);
        let nodes = nodes.iter().map(|key| self.nodes.get(*key));
        nodes.fold(ReadyOfWorker::default(), |most, node| ReadyOfWorker {
            last_us: most.last_us.max(node.ready_us),
            newest_us: most.newest_us.max(node.newest_ready_us),
        })
    }

    /// A creation has come to nothing, though its worker did not say so: it counts as failed. A sandbox that was ready
    /// only ends.
    pub(super) fn give_up_creation(&mut self, now: Now, sandbox: SandboxId, message: String) {
        let Some(found) = self.sandboxes.get(&sandbox) else { return };
        let (id, node) = (found.function, found.node);
        if found.standing != Standing::Starting {
            return self.delete_sandbox(sandbox);
        }
        tracing::warn!(%sandbox, node = %self.nodes.get(node).name, cause = message, "a creation failed");
        self.end_creation(sandbox, "failed");
        self.delete_sandbox(sandbox);
        self.blame_node(now, id, node);
        self.note_failure(now, id, node, wire::CreationFailed { message, permanent: false });
        self.decide(now, id, now.us);
    }

    /// A sandbox in service ended by itself or broke, for this `cause`: soon after it was ready, that is a failure of its
    /// creation. It was said by its worker, or `said_by` a data plane, whose own way there may be what is broken: a node is
    /// blamed for that only when a second data plane says so, where there is one.
    pub(super) fn note_end_of_service(
        &mut self,
        now: Now,
        sandbox: SandboxId,
        said_by: Option<DataPlaneKey>,
        cause: &str,
    ) {
        let Some(found) = self.sandboxes.get(&sandbox) else { return };
        let Some(lived_us) = lived_us(found, now) else { return };
        let (id, node) = (found.function, found.node);
        let is_believed = said_by.is_none_or(|by| self.is_out_of_reach(now, node, by));
        if let Some(function) = self.functions.get_mut(id) {
            function.trouble.last_error = Some(format!("sandbox {sandbox} ended by itself: {cause}"));
        }
        if lived_us < micros(PROVEN_AFTER) {
            let message = format!("sandbox {sandbox} failed {} ms after it was ready: {cause}", lived_us / 1000);
            self.count_failed(id);
            if is_believed {
                self.blame_node(now, id, node);
            }
            self.note_failure(now, id, node, wire::CreationFailed { message, permanent: false });
        }
    }

    /// Whether a node is out of reach by more than the word of one data plane, as far as there is another.
    fn is_out_of_reach(&mut self, now: Now, node: NodeKey, by: DataPlaneKey) -> bool {
        let is_borne_out = self.nodes.note_out_of_reach(node, by, now.us, now.us + micros(AVOIDED_FOR));
        is_borne_out || self.data_planes.connected().all(|(key, ..)| key == by)
    }

    fn count_failed(&mut self, id: FunctionId) {
        if let Some(function) = self.functions.get_mut(id) {
            function.activity.creations_failed = function.activity.creations_failed.saturating_add(1);
        }
    }

    /// A node has failed a function, as far as is known by its own fault.
    fn blame_node(&mut self, now: Now, id: FunctionId, node: NodeKey) {
        self.nodes.creation_failed(node, id, now.us + micros(AVOIDED_FOR));
    }

    fn note_failure(&mut self, now: Now, id: FunctionId, node: NodeKey, failure: wire::CreationFailed) {
        self.avoid_node(now, id, node);
        let Some(function) = self.functions.get_mut(id) else { return };
        let trouble = &mut function.trouble;
        trouble.failed_us = now.us;
        // Several failures of one burst are one failure: the next attempt waits for all of them.
        if now.us >= trouble.not_before_us || trouble.failures >= PACED_FROM {
            trouble.failures = trouble.failures.saturating_add(1);
            let doubled = FIRST_BACK_OFF.saturating_mul(1 << trouble.failures.saturating_sub(1).min(16));
            trouble.not_before_us = now.us + micros(doubled.min(LONGEST_BACK_OFF));
        }
        trouble.permanent = failure.permanent && trouble.failures >= PERMANENT_AFTER;
        trouble.last_error = Some(failure.message.clone());
        trouble.announced = true;
        if trouble.permanent {
            trouble.not_before_us = now.us + micros(LONGEST_BACK_OFF);
        }
        let permanent = trouble.permanent;
        self.announce_trouble(id, failure.message, permanent);
    }

    /// The next sandboxes of a function are made elsewhere, if another node has room.
    fn avoid_node(&mut self, now: Now, id: FunctionId, node: NodeKey) {
        let Some(function) = self.functions.get_mut(id) else { return };
        let avoid = &mut function.trouble.avoid;
        avoid.retain(|(avoided, _)| *avoided != node);
        avoid.push((node, now.us + micros(AVOIDED_FOR)));
        if avoid.len() > AVOIDED_NODES {
            avoid.remove(0);
        }
    }

    /// A sandbox is ready. That ends nothing yet: whether it stays so is seen later.
    pub(super) fn note_success(&mut self, now: Now, sandbox: SandboxId) {
        let Some((id, node)) = self.sandboxes.get(&sandbox).map(|found| (found.function, found.node)) else { return };
        self.end_trouble(id);
        if self.functions.get(id).is_some_and(|function| function.trouble.failures > 0) {
            self.timers.watch(now.us + micros(PROVEN_AFTER), sandbox, SandboxTimer::Proof);
        } else {
            self.nodes.creation_succeeded(node);
        }
    }

    /// A sandbox has been ready for long enough, if it still is: creations of its function work.
    pub(super) fn sandbox_proven(&mut self, sandbox: SandboxId) {
        let in_service = |found: &&Sandbox| matches!(found.standing, Standing::Ready | Standing::Suspended);
        let Some(found) = self.sandboxes.get(&sandbox).filter(in_service) else { return };
        self.nodes.creation_succeeded(found.node);
        if let Some(function) = self.functions.get_mut(found.function) {
            function.trouble.failures = 0;
            function.trouble.avoid.retain(|(avoided, _)| *avoided != found.node);
        }
    }

    /// A sandbox is ended as it was decided here. If a data plane had it and gave it back, and nothing of its function failed
    /// since it was ready, it was made well however short it lived: functions whose sandboxes are given up sooner than
    /// [`PROVEN_AFTER`] would never come out of their failures.
    pub(super) fn note_orderly_end(&mut self, sandbox: SandboxId) {
        let Some(found) = self.sandboxes.get(&sandbox) else { return };
        let was_lent = found.version > 0 && found.loan.is_none();
        let (id, node, ready_us) = (found.function, found.node, found.ready_us);
        let Some(function) = self.functions.get_mut(id).filter(|function| function.trouble.failures > 0) else {
            return;
        };
        if was_lent && ready_us > function.trouble.failed_us {
            function.trouble.failures = 0;
            function.trouble.avoid.retain(|(avoided, _)| *avoided != node);
            self.nodes.creation_succeeded(node);
        }
    }

    /// Of `missing` sandboxes of a function, how many may be made now, and when to look again if not all.
    pub(super) fn paced(&self, now: Now, id: FunctionId, missing: u32) -> (u32, Option<u64>) {
        let Some(function) = self.functions.get(id).filter(|function| function.trouble.failures >= PACED_FROM) else {
            return (missing, None);
        };
        let next_us = function.trouble.made_us + micros(PACE);
        if missing == 0 {
            (0, None)
        } else if now.us < next_us {
            (0, Some(next_us))
        } else if function.starting > 0 {
            // Its end, whatever it is, leads to the next decision.
            (0, None)
        } else {
            (1, (missing > 1).then_some(now.us + micros(PACE)))
        }
    }

    /// Creations of a function work again, or deserve another attempt.
    pub(super) fn end_trouble(&mut self, id: FunctionId) {
        let Some(function) = self.functions.get_mut(id) else { return };
        if std::mem::take(&mut function.trouble.announced) {
            function.trouble.permanent = false;
            self.announce_trouble(id, String::new(), false);
        }
    }
}

/// For how long a sandbox was in service, in microseconds; `None` when it is not, or is leaving. One of the time before
/// a restart has been for as long as anybody can tell.
fn lived_us(sandbox: &Sandbox, now: Now) -> Option<u64> {
    match sandbox.standing {
        Standing::Starting => Some(0),
        Standing::Ready | Standing::Suspended if sandbox.ready_us > 0 => Some(now.us.saturating_sub(sandbox.ready_us)),
        Standing::Ready | Standing::Suspended | Standing::Unclaimed => Some(u64::MAX),
        Standing::Draining | Standing::Deleting => None,
    }
}
