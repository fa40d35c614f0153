//! A function as the rest of the data plane uses it: decisions are made under a short lock, then carried out here.
//!
//! Owns the rule that a slot cannot be lost: whoever gets one holds a [`Slot`], and dropping it gives it back.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use api::wire;
use model::{FunctionId, FunctionName};
use policy::balance::Balance;
use tokio::sync::oneshot;

mod activity;
mod grants;
mod queue;
mod report;
mod slot;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use grants::{Delta, GrantCap, Stamp};
pub(crate) use queue::{ArrivalNumber, WaitOutcome};
pub(crate) use report::{FlushPriority, SandboxFailure};
pub(crate) use slot::{Slot, Usage};
pub(crate) use state::{Effects, FunctionConfig, FunctionState};

use crate::{plane::Plane, refusal::Refusal, upstream::Sandbox};
use state::AdmissionDecision;

/// A registered function.
pub(crate) struct Function {
    id: FunctionId,
    name: FunctionName,
    state: Mutex<FunctionState>,
    /// Cold starts answered since the last sample.
    cold: AtomicU32,
    plane: Arc<Plane>,
}

/// How an invocation begins.
pub(crate) struct AdmittedInvocation {
    /// Its place in the order of arrival.
    pub(crate) arrival: ArrivalNumber,
    /// The terms in force for it.
    pub(crate) config: FunctionConfig,
    /// Its slot, or where to wait for one.
    pub(crate) admission: Admission,
}

/// A slot, or the wait for one.
pub(crate) enum Admission {
    /// There was a free slot.
    Immediate(Slot),
    /// It stands in the queue; dropping this leaves it.
    Queued(QueueEntry),
}

/// A place in a function's queue. Dropping it leaves the queue; a slot that arrives meanwhile goes to the next.
pub(crate) struct QueueEntry {
    function: Arc<Function>,
    arrival: ArrivalNumber,
    wait_outcome: oneshot::Receiver<WaitOutcome>,
}

impl Function {
    /// A function without sandboxes.
    pub(crate) fn new(
        plane: Arc<Plane>,
        id: FunctionId,
        name: FunctionName,
        config: FunctionConfig,
        policy: &'static Balance,
    ) -> Self {
        let state = FunctionState::new(config, policy, plane.random_for(id));
        Self { id, name, state: Mutex::new(state), cold: AtomicU32::new(0), plane }
    }

    /// Its id.
    pub(crate) fn id(&self) -> FunctionId {
        self.id
    }

    /// Its name.
    pub(crate) fn name(&self) -> &FunctionName {
        &self.name
    }

    /// An invocation arrives at `now_us`.
    ///
    /// # Errors
    /// The answer when it is not accepted.
    pub(crate) fn arrive(self: &Arc<Self>, now_us: u64) -> Result<AdmittedInvocation, Refusal> {
        self.enter(None, now_us)
    }

    /// An accepted invocation needs another slot, because its sandbox failed.
    ///
    /// # Errors
    /// The answer when the function is no more.
    pub(crate) fn retry(self: &Arc<Self>, arrival: ArrivalNumber) -> Result<Admission, Refusal> {
        self.enter(Some(arrival), self.plane.clock.now_us()).map(|admitted| admitted.admission)
    }

    /// Changes the state, then carries out what follows.
    pub(crate) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut FunctionState, u64, &mut Effects) -> T) -> T {
        let now_us = self.plane.clock.now_us();
        let mut effects = Effects::default();
        let result = change(&mut self.lock(), now_us, &mut effects);
        self.perform(effects);
        result
    }

    /// A sandbox does not work: no invocation goes there any more, and the control plane is told.
    pub(crate) fn fail_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>, failure: SandboxFailure) {
        self.fail_sandbox_if(|_| true, sandbox, failure);
    }

    /// The same, if a slot of the sandbox is free, so that it should take a connection.
    pub(crate) fn fail_sandbox_unless_full(self: &Arc<Self>, sandbox: &Arc<Sandbox>, failure: SandboxFailure) {
        self.fail_sandbox_if(|state| state.usage(sandbox.id()) != Usage::Full, sandbox, failure);
    }

    fn fail_sandbox_if(
        self: &Arc<Self>,
        condition: impl FnOnce(&FunctionState) -> bool,
        sandbox: &Arc<Sandbox>,
        failure: SandboxFailure,
    ) {
        let cause = failure.cause.clone();
        // Once for each sandbox, however many invocations find that it does not work.
        if self.change(|state, now_us, effects| condition(state) && state.fail(sandbox, failure, now_us, effects)) {
            tracing::warn!(function = %self.name, sandbox = %sandbox.id(), cause, "sandbox failed");
            self.plane.metrics.sandbox_failed();
        }
    }

    /// It is not known whether a sandbox is still there: no invocation goes there any more. True when that is news.
    pub(crate) fn return_grant(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> bool {
        self.change(|state, now_us, effects| state.return_grant(sandbox, now_us, effects))
    }

    /// A cold start was answered.
    pub(crate) fn count_cold_start(&self) {
        self.cold.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks at the state.
    pub(crate) fn view<T>(&self, view: impl FnOnce(&FunctionState) -> T) -> T {
        view(&self.lock())
    }

    /// Moves the news for the control plane into `message`.
    pub(crate) fn write_report(&self, message: &mut wire::FromDataPlane, now_us: u64) -> bool {
        self.lock().write_report(self.id.0, message, now_us)
    }

    /// A sample as it is sent: with what waits and runs now.
    pub(crate) fn write_sample(&self, sample: wire::Sample) -> wire::Sample {
        self.lock().write_sample(sample)
    }

    /// A sample of its load, and whether it is still active; `None` when nobody is told of it.
    pub(crate) fn sample(self: &Arc<Self>) -> Option<(wire::Sample, bool)> {
        self.change(|state, now_us, effects| {
            state.recheck_cap(now_us, effects);
            let (sample, active) = state.sample(now_us)?;
            let cold = self.cold.swap(0, Ordering::Relaxed);
            Some((wire::Sample { function: self.id.0, cold, ..sample }, active))
        })
    }

    fn enter(self: &Arc<Self>, arrival: Option<ArrivalNumber>, now_us: u64) -> Result<AdmittedInvocation, Refusal> {
        let mut effects = Effects::default();
        let mut state = self.lock();
        let config = state.config();
        let (arrival, admission) = match arrival {
            Some(arrival) => (arrival, state.retry(now_us)),
            None => state.arrive(now_us, &mut effects),
        };
        let admission = match admission {
            AdmissionDecision::Served(sandbox) => Ok(Admission::Immediate(Slot::new(self.clone(), sandbox, now_us))),
            AdmissionDecision::Refused(refusal) => Err(refusal),
            AdmissionDecision::Wait => {
                let (waiter, wait_outcome) = oneshot::channel();
                state.join(arrival, waiter, now_us, &mut effects);
                Ok(Admission::Queued(QueueEntry { function: self.clone(), arrival, wait_outcome }))
            }
        };
        drop(state);
        self.perform(effects);
        admission.map(|admission| AdmittedInvocation { arrival, config, admission })
    }

    fn note_abandoned(&self, sandbox: &Arc<Sandbox>, has_ended: bool) {
        self.lock().note_abandoned(sandbox, has_ended);
    }

    fn release(self: &Arc<Self>, sandbox: &Arc<Sandbox>, now_us: u64) {
        let mut effects = Effects::default();
        self.lock().release(sandbox, now_us, &mut effects);
        self.perform(effects);
    }

    /// Carries out effects. A slot whose waiter went away in this very moment goes to the next one.
    fn perform(self: &Arc<Self>, mut effects: Effects) {
        let mut served: VecDeque<_> = std::mem::take(&mut effects.served).into();
        while let Some((waiter, sandbox)) = served.pop_front() {
            let now_us = self.plane.clock.now_us();
            let slot = Slot::new(self.clone(), sandbox, now_us);
            if let Err(WaitOutcome::Served(slot)) = waiter.send(WaitOutcome::Served(slot)) {
                let sandbox = slot.into_sandbox();
                self.lock().release(&sandbox, now_us, &mut effects);
                served.extend(effects.served.drain(..));
            }
        }
        for (waiter, refusal) in effects.refused {
            // A waiter that went away needs no answer.
            let _ = waiter.send(WaitOutcome::Refused(refusal));
        }
        for sandbox in effects.left {
            sandbox.close_idle(&self.plane);
        }
        for sandbox in effects.gone {
            sandbox.close_idle(&self.plane);
            sandbox.break_off();
        }
        if effects.sample {
            self.plane.sampled.begin(self.clone());
        }
        if effects.report > FlushPriority::None {
            self.plane.reports.fetch(self, effects.report);
        }
        if effects.ended {
            self.plane.functions.forget(self);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FunctionState> {
        // Every change leaves the state whole, so a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueEntry {
    /// How the wait ends; `None` never in practice (the function is kept alive by this place).
    pub(crate) async fn wait_outcome(&mut self) -> Option<WaitOutcome> {
        (&mut self.wait_outcome).await.ok()
    }

    /// The answer when the wait has become too long.
    pub(crate) fn queue_deadline_refusal(&self) -> Refusal {
        self.function.view(FunctionState::queue_deadline_refusal)
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        // A slot on its way here is dropped with the channel, and so given back.
        if self.wait_outcome.is_terminated() {
            return;
        }
        self.wait_outcome.close();
        drop(self.wait_outcome.try_recv());
        let arrival = self.arrival;
        self.function.change(|state, now_us, effects| state.leave(arrival, now_us, effects));
    }
}
