//! The state of one function in one data plane: its slots, its queue and its unsent reports.
//!
//! Plain state with synchronous methods that change it and list in [`Effects`] what remains to be done. No I/O, no
//! clock; times are microseconds of the data plane's clock. Two invariants hold between calls: no invocation waits
//! while an active sandbox has a free slot, and every slot in use belongs to exactly one running invocation.

use std::{collections::BTreeMap, sync::Arc};

use model::{FunctionId, SandboxId};
use policy::balance::{Balance, Slots};
use rand_pcg::Pcg32;

use super::{
    activity::{Activity, LoadSample},
    grants::{Grant, GrantCap},
    queue::{ArrivalNumber, Queue, Waiter},
    report::{FlushPriority, FunctionLoad, Report},
};
use crate::{
    refusal::{Cause, Refusal},
    reports::ReportMessage,
    upstream::Sandbox,
};

/// Time for which a permanent creation problem refuses new invocations at once. The next one waits, so that the control
/// plane sees demand and may try again.
const CREATION_FAILURE_TTL_US: u64 = 1_000_000;

/// A function's configuration as this data plane uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionConfig {
    /// Execution time-out of one invocation, microseconds.
    pub(crate) timeout_us: u64,
    /// Queue deadline, microseconds.
    pub(crate) queue_deadline_us: u64,
    /// Capacity of the queue.
    pub(crate) queue_limit: u32,
    pub(crate) protocol: model::Protocol,
    /// Slots of one sandbox, over all data planes.
    pub(crate) concurrency: u32,
    /// Invocations may be retried even if a sandbox may have acted on them.
    pub(crate) retry_any: bool,
    /// Idle timeout of connections to sandboxes, microseconds.
    pub(crate) connection_idle_us: u64,
}

/// The effects of a change, to be carried out by the caller without the lock.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Slots acquired for waiters, in the order of their arrival.
    pub(crate) served: Vec<(Waiter, Arc<Sandbox>)>,
    /// Waits that end without a slot.
    pub(crate) refused: Vec<(Waiter, Refusal)>,
    /// Sandboxes that get no further invocation: their idle connections are to be closed.
    pub(crate) left: Vec<Arc<Sandbox>>,
    /// Sandboxes that no longer exist: all their connections are to be closed.
    pub(crate) gone: Vec<Arc<Sandbox>>,
    /// The priority of the unsent report.
    pub(crate) report: FlushPriority,
    /// Sampling must start.
    pub(crate) sample: bool,
    /// The function was deregistered and has neither sandboxes nor invocations.
    pub(crate) ended: bool,
}

/// The decision about an invocation that needs a slot.
#[derive(Debug)]
pub(crate) enum AdmissionDecision {
    /// It got a slot of this sandbox.
    Served(Arc<Sandbox>),
    /// It must wait: the caller calls [`FunctionState::join`] with a waiter.
    Wait,
    Refused(Refusal),
}

/// The state of one function.
#[derive(Debug)]
pub(crate) struct FunctionState {
    pub(super) config: FunctionConfig,
    pub(super) slots: Slots<SandboxId>,
    pub(super) grants: BTreeMap<SandboxId, Grant>,
    pub(super) queue: Queue,
    /// Running invocations, including those in sandboxes whose grants are gone.
    pub(super) running: u32,
    pub(super) cap: Option<GrantCap>,
    pub(super) report: Report,
    pub(super) removed: bool,
    /// It belongs to a cluster that was left: nothing of it is reported any more.
    pub(super) detached: bool,
    activity: Activity,
    arrivals: u64,
    problem: Option<Problem>,
}

/// A creation problem, without the control plane's message: that may hold output of the program, which clients must not
/// see. Operators find it in the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreationProblem {
    /// Sandboxes cannot be created at present: invocations wait until their deadlines.
    Temporary,
    /// Retries are pointless: waiting invocations are refused.
    Permanent,
}

/// The current creation problem.
#[derive(Clone, Copy, Debug)]
struct Problem {
    kind: CreationProblem,
    since_us: u64,
}

impl FunctionState {
    /// Creates a function without sandboxes. `random` drives balancing policies that sample.
    pub(crate) fn new(config: FunctionConfig, policy: &'static Balance, random: Pcg32) -> Self {
        Self {
            config,
            slots: Slots::new(policy, config.concurrency, random),
            grants: BTreeMap::new(),
            queue: Queue::default(),
            running: 0,
            cap: None,
            report: Report::default(),
            removed: false,
            detached: false,
            activity: Activity::default(),
            arrivals: 0,
            problem: None,
        }
    }

    pub(crate) fn config(&self) -> FunctionConfig {
        self.config
    }

    /// Replaces configuration and balancing policy, from the next arrival or assignment on.
    pub(crate) fn configure(&mut self, config: FunctionConfig, policy: &'static Balance) {
        self.config = config;
        self.slots.set_policy(policy, config.concurrency);
    }

    /// Admits an arriving invocation: its arrival number and the decision.
    pub(crate) fn arrive(&mut self, now_us: u64, effects: &mut Effects) -> (ArrivalNumber, AdmissionDecision) {
        self.arrivals += 1;
        effects.sample |= self.activity.arrive(now_us);
        (ArrivalNumber(self.arrivals), self.admit(now_us))
    }

    /// Admits an invocation whose sandbox failed. It was accepted before, so the capacity of the queue does not apply.
    pub(crate) fn retry(&mut self, now_us: u64) -> AdmissionDecision {
        match self.acquire(now_us) {
            Some(sandbox) => AdmissionDecision::Served(sandbox),
            None if self.removed => AdmissionDecision::Refused(Cause::UnknownFunction.plain()),
            None => AdmissionDecision::Wait,
        }
    }

    fn admit(&mut self, now_us: u64) -> AdmissionDecision {
        if self.removed {
            return AdmissionDecision::Refused(Cause::UnknownFunction.plain());
        }
        if let Some(sandbox) = self.acquire(now_us) {
            return AdmissionDecision::Served(sandbox);
        }
        // With a grant, the invocation can still be served by a slot that becomes free.
        if let Some(problem) = &self.problem
            && problem.kind == CreationProblem::Permanent
            && self.grants.is_empty()
            && now_us < problem.since_us + CREATION_FAILURE_TTL_US
        {
            return AdmissionDecision::Refused(Cause::CreationFailed.plain());
        }
        if self.queue.len() >= self.config.queue_limit {
            return AdmissionDecision::Refused(Cause::QueueFull.plain());
        }
        AdmissionDecision::Wait
    }

    /// Enters the queue.
    pub(crate) fn join(&mut self, arrival: ArrivalNumber, waiter: Waiter, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        self.queue.join(arrival, waiter);
        self.changed(before, now_us, effects);
    }

    /// Leaves the queue: the client left or the deadline passed.
    pub(crate) fn leave(&mut self, arrival: ArrivalNumber, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        if self.queue.leave(arrival) {
            self.changed(before, now_us, effects);
        }
    }

    /// Releases the slot of an invocation that ended in `sandbox`.
    pub(crate) fn release(&mut self, sandbox: &Arc<Sandbox>, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        // Counted even if the grant is gone, since the invocation ran here.
        self.running -= 1;
        let id = sandbox.id();
        if self.grants.get(&id).is_some_and(|grant| Arc::ptr_eq(&grant.sandbox, sandbox)) {
            self.free_slot(id, now_us);
            self.reconcile(id, effects);
        }
        self.serve_queue(effects);
        self.changed(before, now_us, effects);
    }

    /// Deregisters the function: waiting invocations are refused, running ones finish, and grants are returned as they
    /// do.
    pub(crate) fn remove(&mut self, now_us: u64, effects: &mut Effects) {
        self.removed = true;
        self.refuse_all(&Cause::UnknownFunction.plain(), now_us, effects);
        self.return_all_grants(now_us, effects);
    }

    /// Ends every wait with `refusal`.
    pub(crate) fn refuse_all(&mut self, refusal: &Refusal, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        while let Some(waiter) = self.queue.pop() {
            effects.refused.push((waiter, refusal.clone()));
        }
        self.changed(before, now_us, effects);
    }

    /// Sets or clears the current creation problem.
    pub(crate) fn set_creation_problem(
        &mut self,
        problem: Option<CreationProblem>,
        now_us: u64,
        effects: &mut Effects,
    ) {
        if problem == Some(CreationProblem::Permanent) {
            // It does not go away while they wait.
            self.refuse_all(&Cause::CreationFailed.plain(), now_us, effects);
        }
        self.problem = problem.map(|kind| Problem { kind, since_us: now_us });
    }

    /// The refusal for an invocation that reached the queue deadline.
    pub(crate) fn queue_deadline_refusal(&self) -> Refusal {
        match &self.problem {
            Some(_) => Cause::QueueDeadline.because("no sandbox could be created in time"),
            None => Cause::QueueDeadline.plain(),
        }
    }

    /// The measurements since the last sample, and whether the function is still active; `None` if nothing is reported
    /// any more.
    pub(crate) fn sample(&mut self, now_us: u64) -> Option<(LoadSample, bool)> {
        if self.detached {
            return None;
        }
        let (sample, active) = self.activity.sample(now_us, self.queue.len(), self.running);
        let active = active || self.keep_sampling(now_us);
        Some((sample, active))
    }

    /// Moves the unsent report into `message`. Returns true if there is more than one message holds.
    pub(crate) fn write_report(&mut self, function: FunctionId, message: &mut ReportMessage, now_us: u64) -> bool {
        let load = FunctionLoad { function, waiting: self.queue.len(), running: self.running, held: self.held_slots() };
        self.report.write(message, load, now_us)
    }

    /// Updates a sample to what waits and runs when it is sent.
    pub(crate) fn write_sample(&mut self, sample: LoadSample) -> LoadSample {
        let (waiting, running) = (self.queue.len(), self.running);
        self.report.sampled(waiting);
        LoadSample { waiting, running, ..sample }
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.queue.len()
    }

    pub(crate) fn running(&self) -> u32 {
        self.running
    }

    /// Assigns free slots to waiting invocations in the order of arrival.
    pub(super) fn serve_queue(&mut self, effects: &mut Effects) {
        while !self.queue.is_empty() {
            let Some(sandbox) = self.take_slot() else { return };
            if let Some(waiter) = self.queue.pop() {
                effects.served.push((waiter, sandbox));
            }
        }
    }

    /// Updates measurements and reports after a change of the load, which was `before`.
    pub(super) fn changed(&mut self, before: u32, now_us: u64, effects: &mut Effects) {
        self.activity.change(now_us, before, self.load());
        self.report.on_waiting_changed(self.queue.len());
        if self.detached {
            // Nothing is reported about a cluster that was left.
            effects.report = FlushPriority::None;
        } else {
            effects.report = effects.report.max(self.report.mark_queued());
        }
        effects.ended = self.removed && self.grants.is_empty() && self.running == 0;
    }

    /// Waiting plus running invocations.
    pub(super) fn load(&self) -> u32 {
        self.queue.len() + self.running
    }

    /// Starts sampling. Returns false if it was running.
    pub(super) fn begin_sampling(&mut self, now_us: u64) -> bool {
        self.activity.begin(now_us)
    }

    fn keep_sampling(&mut self, now_us: u64) -> bool {
        let is_capped = self.cap.is_some();
        if is_capped {
            // Sampling stops after an idle span, but an unmet cap is rechecked with each sample.
            self.begin_sampling(now_us);
        }
        is_capped
    }

    fn acquire(&mut self, now_us: u64) -> Option<Arc<Sandbox>> {
        let before = self.load();
        let sandbox = self.take_slot()?;
        self.activity.change(now_us, before, before + 1);
        Some(sandbox)
    }

    fn take_slot(&mut self) -> Option<Arc<Sandbox>> {
        let id = self.slots.acquire()?;
        let grant = self.grants.get(&id).expect("slots has exactly the sandboxes granted");
        self.running += 1;
        Some(grant.sandbox.clone())
    }
}
