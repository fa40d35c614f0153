//! Back-off after creations that failed, and after sandboxes that ended or broke soon after they were ready, which is the
//! same to the invocations that wait: the next attempt comes later and on another node.

use std::time::Duration;

use model::{FunctionId, SandboxId};
use policy::placement::NodeKey;
use service::micros;

use super::super::{
    Now,
    cluster::{
        CreationBackoff, DataPlaneKey, DataPlanes, Functions, Nodes, Sandbox, SandboxState, SandboxTimer, Sandboxes,
        Tables, Timers,
    },
    context::Context,
    effects::{CreationProblem, DataPlaneChange, Effects, ProblemChange},
};

/// Wait after the first failed creation; it doubles with each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait between attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Attempts before a failure that the worker calls permanent is believed, and waiting invocations fail.
const PERMANENT_AFTER: u32 = 3;
/// Nodes that failed a function and are avoided for its next sandboxes.
const MAX_AVOIDED_NODES: usize = 4;
/// Time for which a node is avoided after it failed; then it is tried once more.
const AVOIDED_FOR: Duration = Duration::from_secs(30);
/// Time in service after which a creation was a success: the longest back-off, so that a function whose sandboxes live
/// shorter never comes out of it.
const PROVEN_AFTER: Duration = MAX_BACKOFF;
/// From this number of failures on, one sandbox is created at a time, and no sooner than [`PACE`] after the one before:
/// more of them would most likely fail as well.
pub(super) const PACED_FROM: u32 = 5;
/// See [`PACED_FROM`].
const PACE: Duration = Duration::from_secs(1);

/// Reason for a failed creation.
pub(super) struct Failure {
    pub(super) message: String,
    /// Another attempt cannot succeed, according to the worker.
    pub(super) is_permanent: bool,
}

impl Failure {
    pub(super) fn temporary(message: String) -> Self {
        Self { message, is_permanent: false }
    }
}

/// Reporter of the end or failure of a sandbox in service.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// Its worker, or this control plane.
    Worker,
    /// A data plane, whose own path to the sandbox may be what is broken.
    DataPlane(DataPlaneKey),
}

/// Counts failures and successes of functions and nodes.
pub(in crate::state) struct BackoffHandler<'a> {
    context: Context<'a>,
    functions: &'a mut Functions,
    nodes: &'a mut Nodes,
    timers: &'a mut Timers,
    sandboxes: &'a Sandboxes,
    data_planes: &'a DataPlanes,
    effects: &'a mut Effects,
}

impl Functions {
    /// The part of `missing` sandboxes of a function that may be created now, and the time of the next decision if not
    /// all.
    pub(super) fn paced(&self, now: Now, id: FunctionId, missing: u32) -> (u32, Option<u64>) {
        let Some(function) = self.known(id).filter(|function| function.backoff.failures >= PACED_FROM) else {
            return (missing, None);
        };
        let next_us = function.backoff.commanded_us.map(|us| us.saturating_add(micros(PACE)));
        if missing == 0 {
            (0, None)
        } else if next_us > Some(now.us) {
            (0, next_us)
        } else if function.starting() > 0 {
            // However it ends, that leads to the next decision.
            (0, None)
        } else {
            (1, (missing > 1).then_some(now.after(PACE)))
        }
    }
}

impl<'a> BackoffHandler<'a> {
    pub(super) fn of(
        context: Context<'a>,
        tables: &'a mut Tables,
        data_planes: &'a mut DataPlanes,
        effects: &'a mut Effects,
    ) -> Self {
        let Tables { functions, nodes, timers, sandboxes } = tables;
        Self { context, functions, nodes, timers, sandboxes, data_planes, effects }
    }
}

impl BackoffHandler<'_> {
    /// A creation of a function failed on a node: the next attempt waits, and takes place elsewhere.
    pub(super) fn on_creation_failed(&mut self, id: FunctionId, node: NodeKey, failure: Failure) {
        self.blame_node(id, node);
        self.note_failure(id, node, failure);
    }

    /// A sandbox in service exited or broke, for this `cause`. Soon after it was ready, that counts as a failure of its
    /// creation. A report of a data plane counts against the node only when a second data plane confirms it, if there
    /// is one: the fault may be on the first one's own path.
    pub(super) fn on_end_of_service(&mut self, sandbox: SandboxId, source: Source, cause: &str) {
        let Some(found) = self.sandboxes.known(sandbox) else { return };
        let Some(lived_us) = lived_us(found, self.context.now) else { return };
        let (id, node) = (found.function(), found.node());
        let is_believed = match source {
            Source::Worker => true,
            Source::DataPlane(by) => self.is_out_of_reach(node, by),
        };
        let Some(function) = self.functions.known_mut(id) else { return };
        function.backoff.last_error = Some(format!("sandbox {sandbox} ended by itself: {cause}"));
        if lived_us < micros(PROVEN_AFTER) {
            let message = format!("sandbox {sandbox} failed {} ms after it was ready: {cause}", lived_us / 1000);
            function.activity.creations_failed = function.activity.creations_failed.saturating_add(1);
            if is_believed {
                self.blame_node(id, node);
            }
            self.note_failure(id, node, Failure::temporary(message));
        }
    }

    /// Returns true if a second data plane reports that it cannot reach a node, or if there is no second one.
    fn is_out_of_reach(&mut self, node: NodeKey, by: DataPlaneKey) -> bool {
        let now = self.context.now;
        let is_confirmed = self.nodes.note_out_of_reach(node, by, now.us, now.after(AVOIDED_FOR));
        is_confirmed || self.data_planes.connected().all(|(key, ..)| key == by)
    }

    /// A creation failed because of its node, as far as is known.
    fn blame_node(&mut self, id: FunctionId, node: NodeKey) {
        self.nodes.creation_failed(node, id, self.context.now.after(AVOIDED_FOR));
    }

    fn note_failure(&mut self, id: FunctionId, node: NodeKey, failure: Failure) {
        let now = self.context.now;
        let Some(function) = self.functions.known_mut(id) else { return };
        let backoff = &mut function.backoff;
        backoff.avoid.retain(|(avoided, _)| *avoided != node);
        backoff.avoid.push((node, now.after(AVOIDED_FOR)));
        if backoff.avoid.len() > MAX_AVOIDED_NODES {
            backoff.avoid.remove(0);
        }
        backoff.failed_us = Some(now.us);
        // Several failures of one burst are one failure: the next attempt waits for all of them.
        if now.us >= backoff.not_before_us || backoff.failures >= PACED_FROM {
            backoff.failures = backoff.failures.saturating_add(1);
            let doubled = INITIAL_BACKOFF.saturating_mul(1 << backoff.failures.saturating_sub(1).min(16));
            backoff.not_before_us = now.after(doubled.min(MAX_BACKOFF));
        }
        backoff.permanent = failure.is_permanent && backoff.failures >= PERMANENT_AFTER;
        backoff.last_error = Some(failure.message.clone());
        backoff.announced = true;
        if backoff.permanent {
            backoff.not_before_us = now.after(MAX_BACKOFF);
        }
        let permanent = backoff.permanent;
        self.announce(id, Some(CreationProblem { message: failure.message, is_permanent: permanent }));
    }

    /// A sandbox is ready. The back-off ends only when the sandbox has stayed so.
    pub(super) fn on_ready(&mut self, sandbox: SandboxId) {
        let Some(found) = self.sandboxes.known(sandbox) else { return };
        let (id, node) = (found.function(), found.node());
        self.end(id);
        if self.functions.known(id).is_some_and(|function| function.backoff.failures > 0) {
            self.timers.watch(self.context.now.after(PROVEN_AFTER), sandbox, SandboxTimer::Proof);
        } else {
            self.nodes.creation_succeeded(node);
        }
    }

    /// A sandbox has been ready for long enough, if it still is: creations of its function work.
    pub(in crate::state) fn on_proven(&mut self, sandbox: SandboxId) {
        // It may have ended since the timer was set.
        let found = self.sandboxes.get(sandbox);
        let in_service = found.filter(|found| matches!(found.state(), SandboxState::Ready | SandboxState::Suspended));
        if let Some(found) = in_service {
            self.note_success(found.function(), found.node());
        }
    }

    /// A sandbox is ended by a decision of this control plane. If a data plane used and returned it, and nothing of its
    /// function failed since it was ready, its creation was a success however short it lived: functions whose sandboxes
    /// are scaled down sooner than [`PROVEN_AFTER`] would never come out of the back-off.
    pub(super) fn on_orderly_end(&mut self, sandbox: SandboxId) {
        let Some(found) = self.sandboxes.known(sandbox) else { return };
        let was_granted = found.version.is_some() && found.grant().is_none();
        let backoff = self.functions.known(found.function()).map(|function| &function.backoff);
        let is_newer = |backoff: &CreationBackoff| backoff.failures > 0 && found.ready_us > backoff.failed_us;
        if was_granted && backoff.is_some_and(is_newer) {
            self.note_success(found.function(), found.node());
        }
    }

    fn note_success(&mut self, id: FunctionId, node: NodeKey) {
        self.nodes.creation_succeeded(node);
        if let Some(function) = self.functions.known_mut(id) {
            function.backoff.failures = 0;
            function.backoff.avoid.retain(|(avoided, _)| *avoided != node);
        }
    }

    /// Ends the announced problem of a function: creations work again, or another attempt is due.
    pub(super) fn end(&mut self, id: FunctionId) {
        let Some(function) = self.functions.known_mut(id) else { return };
        if std::mem::take(&mut function.backoff.announced) {
            function.backoff.permanent = false;
            self.announce(id, None);
        }
    }

    /// Sends data planes the problem that prevents creations of a function; `None` if there is none.
    pub(super) fn announce(&mut self, function: FunctionId, problem: Option<CreationProblem>) {
        let change = ProblemChange { function, problem };
        self.effects.send_to_every_data_plane(self.data_planes, || DataPlaneChange::Problem(change.clone()));
    }
}

/// Time for which a sandbox was in service, in microseconds; `None` if it is not, or is leaving. For a sandbox of the
/// time before a restart that time is unknown, so it counts as long.
fn lived_us(sandbox: &Sandbox, now: Now) -> Option<u64> {
    match sandbox.state() {
        SandboxState::Starting => Some(0),
        SandboxState::Ready | SandboxState::Suspended => Some(
            sandbox
                .ready_us
                .map_or(u64::MAX, |ready_us| now.us.saturating_sub(ready_us).saturating_sub(sandbox.missed_us)),
        ),
        SandboxState::Unclaimed => Some(u64::MAX),
        SandboxState::Draining | SandboxState::Terminating => None,
    }
}
