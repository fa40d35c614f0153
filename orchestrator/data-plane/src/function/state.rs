//! One function in one data plane: its slots, its queue and what the control plane wants of both.
//!
//! Plain state with synchronous methods: they change it and say in [`Effects`] what is to be done outside. No I/O, no
//! clock; times are microseconds of the data plane's clock. Two invariants hold between calls: nobody waits while an
//! open sandbox has a free slot, and every slot in use belongs to exactly one running invocation.

use std::{collections::BTreeMap, sync::Arc};

use api::wire;
use model::SandboxId;
use policy::balance::{Balance, Slots};
use rand_pcg::Pcg32;

use super::{
    activity::Activity,
    grants::{Grant, GrantCap},
    queue::{ArrivalNumber, Queue, Waiter},
    report::{FlushPriority, FunctionLoad, Report},
};
use crate::{
    refusal::{Cause, Refusal},
    upstream::Sandbox,
};

/// A permanent creation problem answers new invocations at once for this long; after that one more is let in to wait, so
/// that the control plane hears of the demand and may try again.
const CREATION_FAILURE_TTL_US: u64 = 1_000_000;

/// What a data plane knows of a function besides its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionConfig {
    /// Longest run of one invocation, microseconds.
    pub(crate) timeout_us: u64,
    /// Longest wait in the queue, microseconds.
    pub(crate) queue_deadline_us: u64,
    /// Most waiting invocations.
    pub(crate) queue_limit: u32,
    /// What its sandboxes speak.
    pub(crate) protocol: model::Protocol,
    /// Invocations that one sandbox runs at once, over all data planes.
    pub(crate) concurrency: u32,
    /// Whether any invocation may be sent again, also when a sandbox may have acted on it.
    pub(crate) retry_any: bool,
    /// Longest time that a connection to a sandbox is idle, microseconds.
    pub(crate) connection_idle_us: u64,
}

/// What is to be done after a change.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Slots taken for waiters, in the order of their arrival.
    pub(crate) served: Vec<(Waiter, Arc<Sandbox>)>,
    /// Waits that end without a slot.
    pub(crate) refused: Vec<(Waiter, Refusal)>,
    /// Sandboxes no longer used: their idle connections are to be closed.
    pub(crate) left: Vec<Arc<Sandbox>>,
    /// Sandboxes that are no more: whatever runs there is to be broken off.
    pub(crate) gone: Vec<Arc<Sandbox>>,
    /// How soon the control plane is to be told.
    pub(crate) report: FlushPriority,
    /// Samples must begin.
    pub(crate) sample: bool,
    /// The function was deregistered and nothing of it is left.
    pub(crate) ended: bool,
}

/// What becomes of an invocation that asks for a slot.
#[derive(Debug)]
pub(crate) enum AdmissionDecision {
    /// It has one.
    Served(Arc<Sandbox>),
    /// It must wait: [`FunctionState::join`] is to be called.
    Wait,
    /// It is refused.
    Refused(Refusal),
}

/// The state of one function.
#[derive(Debug)]
pub(crate) struct FunctionState {
    pub(super) config: FunctionConfig,
    pub(super) slots: Slots<SandboxId>,
    pub(super) grants: BTreeMap<SandboxId, Grant>,
    pub(super) queue: Queue,
    /// Running invocations, also those in sandboxes that have been forgotten.
    pub(super) running: u32,
    pub(super) cap: Option<GrantCap>,
    pub(super) report: Report,
    pub(super) removed: bool,
    /// It belongs to a cluster that was left: nobody is told anything of it any more.
    pub(super) detached: bool,
    activity: Activity,
    arrivals: u64,
    problem: Option<Problem>,
}

/// Its message is for operators, who find it in the control plane: it may hold what the program printed, which is not
/// for those who invoke it.
#[derive(Clone, Copy, Debug)]
struct Problem {
    permanent: bool,
    since_us: u64,
}

impl FunctionState {
    /// A function without sandboxes. `random` feeds a policy that chooses at random.
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

    /// The terms in force.
    pub(crate) fn config(&self) -> FunctionConfig {
        self.config
    }

    /// New terms and balancing, for whoever arrives or is served from now on.
    pub(crate) fn configure(&mut self, config: FunctionConfig, policy: &'static Balance) {
        self.config = config;
        self.slots.set_policy(policy, config.concurrency);
    }

    /// An invocation arrives: its ticket, and a slot or a place in the queue if there is one.
    pub(crate) fn arrive(&mut self, now_us: u64, effects: &mut Effects) -> (ArrivalNumber, AdmissionDecision) {
        self.arrivals += 1;
        effects.sample |= self.activity.arrive(now_us);
        (ArrivalNumber(self.arrivals), self.admit(now_us))
    }

    /// An invocation whose sandbox failed asks for another slot. It was accepted before, so the queue's limit does not
    /// apply to it.
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
        if let Some(problem) = &self.problem
            && problem.permanent
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

    /// Takes a place in the queue.
    pub(crate) fn join(&mut self, arrival: ArrivalNumber, waiter: Waiter, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        self.queue.join(arrival, waiter);
        self.changed(before, now_us, effects);
    }

    /// Leaves the queue: the client went away or the deadline passed.
    pub(crate) fn leave(&mut self, arrival: ArrivalNumber, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        if self.queue.leave(arrival) {
            self.changed(before, now_us, effects);
        }
    }

    /// An invocation in `sandbox` has ended, and the sandbox with it as far as this slot goes.
    pub(crate) fn release(&mut self, sandbox: &Arc<Sandbox>, now_us: u64, effects: &mut Effects) {
        let before = self.load();
        self.running -= 1;
        let id = sandbox.id();
        if self.grants.get(&id).is_some_and(|grant| Arc::ptr_eq(&grant.sandbox, sandbox)) {
            self.free_slot(id, now_us);
            self.reconcile(id, effects);
        }
        self.serve_queue(effects);
        self.changed(before, now_us, effects);
    }

    /// The function was deregistered: waiters are answered, running invocations finish, slots go back as they do.
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

    /// Sandboxes cannot be made at present, or (with an empty message) can again.
    pub(crate) fn set_creation_problem(&mut self, problem: wire::CreationProblem, now_us: u64, effects: &mut Effects) {
        if problem.message.is_empty() {
            self.problem = None;
            return;
        }
        if problem.permanent {
            self.refuse_all(&Cause::CreationFailed.plain(), now_us, effects);
        }
        self.problem = Some(Problem { permanent: problem.permanent, since_us: now_us });
    }

    /// The answer to an invocation that has waited as long as it may.
    pub(crate) fn queue_deadline_refusal(&self) -> Refusal {
        match &self.problem {
            Some(_) => Cause::QueueDeadline.because("no sandbox could be made in time"),
            None => Cause::QueueDeadline.plain(),
        }
    }

    /// What was measured since the last sample, and whether the function is still active; `None` when nobody is told.
    pub(crate) fn sample(&mut self, now_us: u64) -> Option<(wire::Sample, bool)> {
        if self.detached {
            return None;
        }
        let (sample, active) = self.activity.sample(now_us, self.queue.len(), self.running);
        let active = active || self.keep_sampling(now_us);
        Some((sample, active))
    }

    /// Moves the news into `message`.
    pub(crate) fn write_report(&mut self, function: u64, message: &mut wire::FromDataPlane, now_us: u64) -> bool {
        let load = FunctionLoad { function, waiting: self.queue.len(), running: self.running, held: self.held_slots() };
        self.report.write(message, load, now_us)
    }

    /// A sample as it is sent: with what waits and runs now.
    pub(crate) fn write_sample(&mut self, sample: wire::Sample) -> wire::Sample {
        let (waiting, running) = (self.queue.len(), self.running);
        self.report.sampled(waiting);
        wire::Sample { waiting, running, ..sample }
    }

    /// Waiting invocations.
    pub(crate) fn waiting(&self) -> u32 {
        self.queue.len()
    }

    /// Running invocations.
    pub(crate) fn running(&self) -> u32 {
        self.running
    }

    /// Gives free slots to waiters, the longest waiting first.
    pub(super) fn serve_queue(&mut self, effects: &mut Effects) {
        while !self.queue.is_empty() {
            let Some(sandbox) = self.take_slot() else { return };
            if let Some(waiter) = self.queue.pop() {
                effects.served.push((waiter, sandbox));
            }
        }
    }

    /// Brings measurements and reports up to date after a change from level `before`.
    pub(super) fn changed(&mut self, before: u32, now_us: u64, effects: &mut Effects) {
        self.activity.change(now_us, before, self.load());
        self.report.on_waiting_changed(self.queue.len());
        if self.detached {
            effects.report = FlushPriority::None;
        } else {
            effects.report = effects.report.max(self.report.mark_queued());
        }
        effects.ended = self.removed && self.grants.is_empty() && self.running == 0;
    }

    /// Waiting and running invocations.
    pub(super) fn load(&self) -> u32 {
        self.queue.len() + self.running
    }

    /// Begins to take samples; true when none were taken.
    pub(super) fn begin_sampling(&mut self, now_us: u64) -> bool {
        self.activity.begin(now_us)
    }

    fn keep_sampling(&mut self, now_us: u64) -> bool {
        let is_capped = self.cap.is_some();
        if is_capped {
            // Its clock may have stopped with an idle span; the limit is looked at again with each sample.
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
