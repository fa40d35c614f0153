//! Creations that fail, and sandboxes that end or break soon after they were ready, which is the same to whoever waits:
//! the next attempt comes later and elsewhere.

use std::time::Duration;

use api::wire;
use model::{FunctionId, SandboxId};
use policy::placement::NodeKey;

use super::{
    Cluster, Now, State,
    data_plane::DataPlaneKey,
    sandbox::{Sandbox, SandboxState},
    timer::SandboxTimer,
};
use crate::clock::micros;

/// First wait after a failed creation; it doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Attempts before a permanent failure is believed and waiting invocations are told.
const PERMANENT_AFTER: u32 = 3;
/// Nodes that failed a function and are avoided for its next sandboxes.
const AVOIDED_NODES: usize = 4;
/// For how long a node is avoided after it has failed: then it is tried once more.
const AVOIDED_FOR: Duration = Duration::from_secs(30);
/// A sandbox that has been ready for so long was a success: the longest back-off, so that a function whose sandboxes
/// live shorter never comes out of it.
const PROVEN_AFTER: Duration = MAX_BACKOFF;
/// From so many failures on one sandbox is made at a time, and no sooner after the one before than [`PACE`]: more of
/// them would most likely fail as well.
pub(super) const PACED_FROM: u32 = 5;
/// See [`PACED_FROM`].
const PACE: Duration = Duration::from_secs(1);
impl Cluster {
    /// Of `missing` sandboxes of a function, how many may be made now, and when to look again if not all.
    pub(super) fn paced(&self, now: Now, id: FunctionId, missing: u32) -> (u32, Option<u64>) {
        let Some(function) = self.functions.get(id).filter(|function| function.backoff.failures >= PACED_FROM) else {
            return (missing, None);
        };
        let next_us = function.backoff.made_us.saturating_add(micros(PACE));
        if missing == 0 {
            (0, None)
        } else if now.us < next_us {
            (0, Some(next_us))
        } else if function.starting > 0 {
            // Its end, whatever it is, leads to the next decision.
            (0, None)
        } else {
            (1, (missing > 1).then_some(now.after(PACE)))
        }
    }
}

impl State {
    /// Takes note of a failed creation: the next attempt waits, and goes elsewhere.
    pub(super) fn creation_failed(&mut self, now: Now, sandbox: SandboxId, failure: wire::CreationFailed) {
        let Some(failed) = self.cluster.sandboxes.get(&sandbox) else { return };
        let (id, node, was_wanted) = (failed.function, failed.node, failed.state == SandboxState::Starting);
        if !was_wanted {
            tracing::warn!(%sandbox, cause = failure.message, "a sandbox in service is said to have failed");
            self.note_end_of_service(now, sandbox, None, &failure.message);
        }
        self.forget_sandbox(sandbox, "failed");
        if was_wanted {
            tracing::warn!(%sandbox, cause = failure.message, "a creation failed");
            self.blame_node(now, id, node);
            self.note_failure(now, id, node, failure);
        }
        // One that was in service, which only a faulty worker says of it, is missing too.
        self.touch(id, now.us);
    }

    /// A creation took too long. One that has begun is given up, and counts as failed; one that still waits for others says
    /// nothing about its function or its node.
    pub(super) fn creation_overdue(&mut self, now: Now, sandbox: SandboxId) {
        let starting = |found: &&Sandbox| found.state == SandboxState::Starting;
        let Some(overdue) = self.cluster.sandboxes.get(&sandbox).filter(starting) else { return };
        if overdue.queued_until_us.is_some() {
            return self.note_overdue(now, sandbox);
        }
        self.give_up_creation(
            now,
            sandbox,
            format!("it was not ready within {:?}", self.settings.health.creation_deadline),
        );
    }

    /// A creation has come to nothing, though its worker did not say so: it counts as failed. A sandbox that was ready
    /// only ends.
    pub(super) fn give_up_creation(&mut self, now: Now, sandbox: SandboxId, message: String) {
        let Some(found) = self.cluster.sandboxes.get(&sandbox) else { return };
        let (id, node, was_starting) = (found.function, found.node, found.state == SandboxState::Starting);
        self.touch(id, now.us);
        if !was_starting {
            self.note_end_of_service(now, sandbox, None, &message);
            return self.delete_sandbox(sandbox);
        }
        tracing::warn!(%sandbox, node = %self.cluster.nodes.get(node).name, cause = message, "a creation failed");
        self.end_creation(sandbox, "failed");
        self.delete_sandbox(sandbox);
        self.blame_node(now, id, node);
        self.note_failure(now, id, node, wire::CreationFailed { message, permanent: false });
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
        let Some(found) = self.cluster.sandboxes.get(&sandbox) else { return };
        let Some(lived_us) = lived_us(found, now) else { return };
        let (id, node) = (found.function, found.node);
        let is_believed = said_by.is_none_or(|by| self.is_out_of_reach(now, node, by));
        if let Some(function) = self.cluster.functions.get_mut(id) {
            function.backoff.last_error = Some(format!("sandbox {sandbox} ended by itself: {cause}"));
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
        let is_borne_out = self.cluster.nodes.note_out_of_reach(node, by, now.us, now.after(AVOIDED_FOR));
        is_borne_out || self.cluster.data_planes.connected().all(|(key, ..)| key == by)
    }

    fn count_failed(&mut self, id: FunctionId) {
        if let Some(function) = self.cluster.functions.get_mut(id) {
            function.activity.creations_failed = function.activity.creations_failed.saturating_add(1);
        }
    }

    /// A node has failed a function, as far as is known by its own fault.
    fn blame_node(&mut self, now: Now, id: FunctionId, node: NodeKey) {
        self.cluster.nodes.creation_failed(node, id, now.after(AVOIDED_FOR));
    }

    fn note_failure(&mut self, now: Now, id: FunctionId, node: NodeKey, failure: wire::CreationFailed) {
        let Some(function) = self.cluster.functions.get_mut(id) else { return };
        let backoff = &mut function.backoff;
        backoff.avoid.retain(|(avoided, _)| *avoided != node);
        backoff.avoid.push((node, now.after(AVOIDED_FOR)));
        if backoff.avoid.len() > AVOIDED_NODES {
            backoff.avoid.remove(0);
        }
        backoff.failed_us = now.us;
        // Several failures of one burst are one failure: the next attempt waits for all of them.
        if now.us >= backoff.not_before_us || backoff.failures >= PACED_FROM {
            backoff.failures = backoff.failures.saturating_add(1);
            let doubled = INITIAL_BACKOFF.saturating_mul(1 << backoff.failures.saturating_sub(1).min(16));
            backoff.not_before_us = now.after(doubled.min(MAX_BACKOFF));
        }
        backoff.permanent = failure.permanent && backoff.failures >= PERMANENT_AFTER;
        backoff.last_error = Some(failure.message.clone());
        backoff.announced = true;
        if backoff.permanent {
            backoff.not_before_us = now.after(MAX_BACKOFF);
        }
        let permanent = backoff.permanent;
        self.announce_creation_problem(id, failure.message, permanent);
    }

    /// A sandbox is ready. That ends nothing yet: whether it stays so is seen later.
    pub(super) fn note_success(&mut self, now: Now, sandbox: SandboxId) {
        let Some((id, node)) = self.cluster.sandboxes.get(&sandbox).map(|found| (found.function, found.node)) else {
            return;
        };
        self.end_backoff(id);
        if self.cluster.functions.get(id).is_some_and(|function| function.backoff.failures > 0) {
            self.timers.watch(now.after(PROVEN_AFTER), sandbox, SandboxTimer::Proof);
        } else {
            self.cluster.nodes.creation_succeeded(node);
        }
    }

    /// A sandbox has been ready for long enough, if it still is: creations of its function work.
    pub(super) fn sandbox_proven(&mut self, sandbox: SandboxId) {
        let in_service = |found: &&Sandbox| matches!(found.state, SandboxState::Ready | SandboxState::Suspended);
        let Some(found) = self.cluster.sandboxes.get(&sandbox).filter(in_service) else { return };
        self.cluster.nodes.creation_succeeded(found.node);
        if let Some(function) = self.cluster.functions.get_mut(found.function) {
            function.backoff.failures = 0;
            function.backoff.avoid.retain(|(avoided, _)| *avoided != found.node);
        }
    }

    /// A sandbox is ended as it was decided here. If a data plane had it and gave it back, and nothing of its function failed
    /// since it was ready, it was made well however short it lived: functions whose sandboxes are given up sooner than
    /// [`PROVEN_AFTER`] would never come out of their failures.
    pub(super) fn note_orderly_end(&mut self, sandbox: SandboxId) {
        let Some(found) = self.cluster.sandboxes.get(&sandbox) else { return };
        let was_granted = found.version > 0 && found.grant.is_none();
        let (id, node, ready_us) = (found.function, found.node, found.ready_us);
        let Some(function) = self.cluster.functions.get_mut(id).filter(|function| function.backoff.failures > 0) else {
            return;
        };
        if was_granted && ready_us > function.backoff.failed_us {
            function.backoff.failures = 0;
            function.backoff.avoid.retain(|(avoided, _)| *avoided != node);
            self.cluster.nodes.creation_succeeded(node);
        }
    }

    /// Creations of a function work again, or deserve another attempt.
    pub(super) fn end_backoff(&mut self, id: FunctionId) {
        let Some(function) = self.cluster.functions.get_mut(id) else { return };
        if std::mem::take(&mut function.backoff.announced) {
            function.backoff.permanent = false;
            self.announce_creation_problem(id, String::new(), false);
        }
    }
}

/// For how long a sandbox was in service, in microseconds; `None` when it is not, or is leaving. One of the time before
/// a restart has been for as long as anybody can tell.
fn lived_us(sandbox: &Sandbox, now: Now) -> Option<u64> {
    match sandbox.state {
        SandboxState::Starting => Some(0),
        SandboxState::Ready | SandboxState::Suspended if sandbox.ready_us > 0 => {
            Some(now.us.saturating_sub(sandbox.ready_us).saturating_sub(sandbox.missed_us))
        }
        SandboxState::Ready | SandboxState::Suspended | SandboxState::Unclaimed => Some(u64::MAX),
        SandboxState::Draining | SandboxState::Terminating => None,
    }
}
