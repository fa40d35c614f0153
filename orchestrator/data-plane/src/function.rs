//! A function as the rest of the data plane uses it: decisions are made in [`FunctionState`] under a short lock, then
//! carried out here.
//!
//! Owns the rule that no slot is lost: a slot in use is a [`Slot`], whose drop releases it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

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

pub(crate) use activity::LoadSample;
pub(crate) use grants::{Delta, GrantCap, Stamp};
pub(crate) use queue::{ArrivalNumber, WaitOutcome};
pub(crate) use report::{FlushPriority, SandboxFailure};
pub(crate) use slot::{Slot, Usage};
pub(crate) use state::{CreationProblem, Effects, FunctionConfig, FunctionState};

use crate::{plane::Plane, refusal::Refusal, reports::ReportMessage, upstream::Sandbox};
use state::AdmissionDecision;

/// A registered function.
pub(crate) struct Function {
    id: FunctionId,
    name: FunctionName,
    state: Mutex<FunctionState>,
    /// Cold starts completed since the last sample.
    cold: AtomicU32,
    plane: Arc<Plane>,
}

/// An admitted invocation.
pub(crate) struct AdmittedInvocation {
    /// Its position in the order of arrival.
    pub(crate) arrival: ArrivalNumber,
    /// The function's configuration at its arrival.
    pub(crate) config: FunctionConfig,
    /// Its slot, or its queue entry.
    pub(crate) admission: Admission,
}

/// The result of admission.
pub(crate) enum Admission {
    /// A slot was free.
    Immediate(Slot),
    /// No slot was free. Dropping the entry leaves the queue.
    Queued(QueueEntry),
}

/// An entry in a function's queue. Dropping it leaves the queue; a slot that was assigned meanwhile goes to the next
/// entry.
pub(crate) struct QueueEntry {
    function: Arc<Function>,
    arrival: ArrivalNumber,
    wait_outcome: oneshot::Receiver<WaitOutcome>,
}

impl Function {
    /// Creates a function without sandboxes.
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

    pub(crate) fn id(&self) -> FunctionId {
        self.id
    }

    pub(crate) fn name(&self) -> &FunctionName {
        &self.name
    }

    /// Admits an invocation that arrived at `now_us`.
    ///
    /// # Errors
    /// Returns the refusal if it is not admitted.
    pub(crate) fn arrive(self: &Arc<Self>, now_us: u64) -> Result<AdmittedInvocation, Refusal> {
        self.enter(None, now_us)
    }

    /// Requests another slot for an admitted invocation whose sandbox failed. It keeps its position in the order of
    /// arrival.
    ///
    /// # Errors
    /// Returns the refusal if the function was deregistered.
    pub(crate) fn retry(self: &Arc<Self>, arrival: ArrivalNumber) -> Result<Admission, Refusal> {
        self.enter(Some(arrival), self.plane.clock.now_us()).map(|admitted| admitted.admission)
    }

    /// Changes the state under the lock, then carries out the effects without it.
    pub(crate) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut FunctionState, u64, &mut Effects) -> T) -> T {
        let now_us = self.plane.clock.now_us();
        let mut effects = Effects::default();
        let result = change(&mut self.lock(), now_us, &mut effects);
        self.perform(effects);
        result
    }

    /// Stops using a sandbox that does not work and reports it to the control plane.
    pub(crate) fn fail_sandbox(self: &Arc<Self>, sandbox: &Arc<Sandbox>, failure: SandboxFailure) {
        self.fail_sandbox_if(|_| true, sandbox, failure);
    }

    /// As [`Self::fail_sandbox`], but only if a slot of the sandbox is free: a full one may refuse connections for
    /// that.
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
        // One change under the lock: a sandbox that has just become full may have refused the connection for that.
        // Logged once for each sandbox, however many invocations fail in it.
        if self.change(|state, now_us, effects| condition(state) && state.fail(sandbox, failure, now_us, effects)) {
            tracing::warn!(function = %self.name, sandbox = %sandbox.id(), cause, "sandbox failed");
            self.plane.metrics.sandbox_failed();
        }
    }

    /// Returns the grant of a sandbox that may have ended unseen, without reporting a failure. Returns false if that
    /// had happened before.
    pub(crate) fn return_grant(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> bool {
        self.change(|state, now_us, effects| state.return_grant(sandbox, now_us, effects))
    }

    /// Counts a completed cold start for the next sample.
    pub(crate) fn count_cold_start(&self) {
        self.cold.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the state under the lock.
    pub(crate) fn view<T>(&self, view: impl FnOnce(&FunctionState) -> T) -> T {
        view(&self.lock())
    }

    /// Moves the unsent report into `message`. Returns true if there is more than one message holds.
    pub(crate) fn write_report(&self, message: &mut ReportMessage, now_us: u64) -> bool {
        self.lock().write_report(self.id, message, now_us)
    }

    /// Updates a sample to what waits and runs when it is sent.
    pub(crate) fn write_sample(&self, sample: LoadSample) -> LoadSample {
        self.lock().write_sample(sample)
    }

    /// Takes a sample of the load. The flag is true while the function is active; `None` means that it belongs to a
    /// cluster that was left.
    pub(crate) fn sample(self: &Arc<Self>) -> Option<(LoadSample, bool)> {
        self.change(|state, now_us, effects| {
            state.recheck_cap(now_us, effects);
            let (sample, active) = state.sample(now_us)?;
            let cold = self.cold.swap(0, Ordering::Relaxed);
            Some((LoadSample { cold, ..sample }, active))
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
                // Still under the lock of the decision, so no slot can become free between decision and queue.
                state.join(arrival, waiter, now_us, &mut effects);
                Ok(Admission::Queued(QueueEntry { function: self.clone(), arrival, wait_outcome }))
            }
        };
        // Effects are carried out without the lock: they wake tasks and close connections.
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

    /// Carries out effects. A slot whose waiter left at this moment goes to the next one.
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
            // A waiter that has left needs no refusal.
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
        // Every change leaves the state consistent, so a panic elsewhere does not make it unusable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueEntry {
    /// Waits for the outcome. `None` does not occur in practice: this entry keeps the function alive.
    pub(crate) async fn wait_outcome(&mut self) -> Option<WaitOutcome> {
        (&mut self.wait_outcome).await.ok()
    }

    /// The refusal for a wait that reached the queue deadline.
    pub(crate) fn queue_deadline_refusal(&self) -> Refusal {
        self.function.view(FunctionState::queue_deadline_refusal)
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        // A slot already sent here is dropped with the channel and thereby released.
        if self.wait_outcome.is_terminated() {
            return;
        }
        self.wait_outcome.close();
        drop(self.wait_outcome.try_recv());
        let arrival = self.arrival;
        self.function.change(|state, now_us, effects| state.leave(arrival, now_us, effects));
    }
}
