//! Checks the state of one function against a model: slots are never exceeded, no invocation waits while a slot is
//! free, the queue is served in order, every wait ends once, and the control plane never believes that fewer slots are
//! held than are in use.

mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::wire;
use model::{Endpoint, EndpointState, Epoch, FunctionId, Protocol, SandboxId};
use policy::balance;
use proptest::prelude::*;
use rand_pcg::Pcg32;
use tokio::sync::oneshot;

use super::{
    ArrivalNumber, CreationProblem, Delta, Effects, FunctionConfig, FunctionState, GrantCap, SandboxFailure, Stamp,
    WaitOutcome, state::AdmissionDecision,
};
use crate::{refusal::Cause, reports::ReportMessage, upstream::Sandbox};

const CONFIG: FunctionConfig = FunctionConfig {
    timeout_us: 1_000_000,
    queue_deadline_us: 1_000_000,
    queue_limit: 5,
    protocol: Protocol::Http1,
    concurrency: 3,
    retry_any: false,
    connection_idle_us: 1_000_000,
};

/// An event of a function. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Event {
    Arrive,
    Finish(usize),
    Leave(usize),
    Retry(usize),
    Delta { sandbox: u64, slots: u32, state: EndpointState },
    GrantCap { slots: u32, min_idle_ms: u64, drain: bool },
    Fail(usize),
    Review,
    Problem(bool),
    Resync,
    Configure { policy: usize, concurrency: u32 },
}

struct World {
    state: FunctionState,
    now_us: u64,
    version: u64,
    waiting: BTreeMap<ArrivalNumber, oneshot::Receiver<WaitOutcome>>,
    running: Vec<(ArrivalNumber, Arc<Sandbox>)>,
    /// Usable slots of each sandbox, as granted and revoked by the control plane.
    granted: BTreeMap<SandboxId, u32>,
    /// Held slots of each sandbox, as the control plane believes.
    believed: BTreeMap<SandboxId, u32>,
    failed: BTreeSet<SandboxId>,
    limit_acks: Vec<wire::LimitAck>,
}

impl World {
    fn new() -> Self {
        Self {
            state: FunctionState::new(CONFIG, &balance::policies()[0], Pcg32::new(1, 1)),
            now_us: 0,
            version: 0,
            waiting: BTreeMap::new(),
            running: Vec::new(),
            granted: BTreeMap::new(),
            believed: BTreeMap::new(),
            failed: BTreeSet::new(),
            limit_acks: Vec::new(),
        }
    }

    /// Applies `change` a millisecond later, and carries out its effects.
    fn change<T>(&mut self, change: impl FnOnce(&mut FunctionState, u64, &mut Effects) -> T) -> T {
        self.now_us += 1_000;
        let mut effects = Effects::default();
        let result = change(&mut self.state, self.now_us, &mut effects);
        for (waiter, sandbox) in effects.served {
            let marker = WaitOutcome::Refused(Cause::NotReady.plain());
            assert!(waiter.send(marker).is_ok(), "a waiter that has not left is there");
            let (arrival, mut wait_outcome) = self.waiting.pop_first().expect("only who waits is served");
            assert!(wait_outcome.try_recv().is_ok(), "the one who came first is served first");
            self.started(arrival, sandbox);
        }
        for (waiter, refusal) in effects.refused {
            assert!(waiter.send(WaitOutcome::Refused(refusal)).is_ok(), "a waiter that has not left is there");
        }
        // An entry with an outcome does not wait any more.
        self.waiting.retain(|_, wait_outcome| wait_outcome.try_recv().is_err());
        self.read_report();
        result
    }

    fn read_report(&mut self) {
        let mut message = ReportMessage::default();
        self.state.write_report(FunctionId(1), &mut message, self.now_us);
        let message = message.into_wire().unwrap_or_default();
        for failure in message.failures {
            let id = SandboxId::from_wire(failure.sandbox);
            self.believed.remove(&id);
            self.failed.insert(id);
        }
        for ack in message.acks {
            let id = SandboxId::from_wire(ack.sandbox);
            if self.failed.contains(&id) {
                assert!(self.in_use(id) <= ack.slots, "{id} failed, but runs more than {} still", ack.slots);
            } else {
                self.believed.insert(id, ack.slots);
            }
        }
        self.limit_acks.extend(message.limit_acks);
    }

    fn started(&mut self, arrival: ArrivalNumber, sandbox: Arc<Sandbox>) {
        let id = sandbox.id();
        self.running.push((arrival, sandbox));
        let granted = self.granted.get(&id).copied().unwrap_or(0);
        assert!(self.in_use(id) <= granted, "{id}: {} invocations in {granted} slots", self.in_use(id));
    }

    fn in_use(&self, id: SandboxId) -> u32 {
        u32::try_from(self.running.iter().filter(|(_, sandbox)| sandbox.id() == id).count()).unwrap()
    }

    fn admitted(&mut self, arrival: ArrivalNumber, admission: AdmissionDecision) {
        match admission {
            AdmissionDecision::Served(sandbox) => self.started(arrival, sandbox),
            AdmissionDecision::Refused(_) => {}
            AdmissionDecision::Wait => {
                let (waiter, wait_outcome) = oneshot::channel();
                self.waiting.insert(arrival, wait_outcome);
                self.change(|state, now_us, effects| state.join(arrival, waiter, now_us, effects));
            }
        }
    }

    fn delta(&mut self, sandbox: u64, slots: u32, state: EndpointState) {
        let id = SandboxId::new(Epoch(1), sandbox).unwrap();
        self.version += 1;
        let stamp = Stamp { stream: 1, version: self.version };
        let delta = Delta {
            endpoint: Endpoint { sandbox: id, address: service::ANY_LOOPBACK },
            slots,
            state,
            stamp,
            ready_age_us: 0,
        };
        let open = state == EndpointState::Active;
        self.granted.insert(id, if open { slots } else { 0 });
        if state == EndpointState::Gone {
            // Its running invocations are aborted.
            let gone: Vec<_> = self.running.extract_if(.., |(_, sandbox)| sandbox.id() == id).collect();
            self.change(|s, now_us, effects| s.apply(delta, now_us, effects));
            self.believed.remove(&id);
            self.failed.remove(&id);
            for (_, sandbox) in gone {
                self.change(|s, now_us, effects| s.release(&sandbox, now_us, effects));
            }
        } else {
            self.change(|s, now_us, effects| s.apply(delta, now_us, effects));
        }
    }

    fn finish(&mut self, index: usize) -> Option<ArrivalNumber> {
        if self.running.is_empty() {
            return None;
        }
        let (arrival, sandbox) = self.running.remove(index % self.running.len());
        self.change(|state, now_us, effects| state.release(&sandbox, now_us, effects));
        Some(arrival)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => {
                let (arrival, admission) = self.change(FunctionState::arrive);
                self.admitted(arrival, admission);
            }
            Event::Finish(index) => {
                self.finish(index);
            }
            Event::Retry(index) => {
                if let Some(arrival) = self.finish(index) {
                    let admission = self.change(|state, now_us, _| state.retry(now_us));
                    self.admitted(arrival, admission);
                }
            }
            Event::Leave(index) => {
                if let Some(&arrival) = self.waiting.keys().nth(index % self.waiting.len().max(1)) {
                    self.waiting.remove(&arrival);
                    self.change(|state, now_us, effects| state.leave(arrival, now_us, effects));
                }
            }
            Event::Delta { sandbox, slots, state } => self.delta(sandbox, slots, state),
            Event::GrantCap { slots, min_idle_ms, drain } => {
                self.version += 1;
                let cap = GrantCap { slots, min_idle_ms, drain, version: self.version };
                self.change(|state, now_us, effects| state.apply_cap(cap, now_us, effects));
            }
            Event::Fail(index) => {
                if !self.running.is_empty() {
                    let sandbox = self.running[index % self.running.len()].1.clone();
                    self.change(|s, now_us, effects| {
                        s.fail(&sandbox, SandboxFailure::broken("broke"), now_us, effects)
                    });
                }
            }
            Event::Review => self.change(|state, now_us, effects| state.recheck_cap(now_us, effects)),
            Event::Problem(permanent) => {
                let problem = if permanent { CreationProblem::Permanent } else { CreationProblem::Temporary };
                self.change(|state, now_us, effects| state.set_creation_problem(Some(problem), now_us, effects));
            }
            Event::Resync => {
                let held = self.change(|state, _, effects| state.resync(effects));
                let (failed, believed): (Vec<_>, Vec<_>) =
                    held.into_iter().partition(|(id, _)| self.failed.contains(id));
                let named: BTreeSet<SandboxId> = failed.iter().map(|(id, _)| *id).collect();
                assert_eq!(named, self.failed, "until they are gone nobody else may have those that failed");
                assert!(failed.iter().all(|(id, slots)| *slots >= self.in_use(*id).max(1)), "{failed:?}");
                self.believed = believed.into_iter().collect();
            }
            Event::Configure { policy, concurrency } => {
                let config = FunctionConfig { concurrency, ..CONFIG };
                self.change(|state, _, _| state.configure(config, &balance::policies()[policy]));
            }
        }
    }

    fn check(&self) {
        let (waiting, running) = (self.waiting.len(), self.running.len());
        assert_eq!((self.state.waiting() as usize, self.state.running() as usize), (waiting, running), "counts");
        let (_, free) = self.state.supply();
        assert!(waiting == 0 || free == 0, "{waiting} wait beside {free} free slots");
        for (&id, &believed) in &self.believed {
            let in_use = self.in_use(id);
            assert!(in_use <= believed, "{id}: the control plane believes in {believed} slots, {in_use} are in use");
        }
        let believed: u32 = self.believed.values().sum();
        assert_eq!(self.state.held_slots(), believed, "what is held is what the control plane was told");
    }
}

fn event() -> impl Strategy<Value = Event> {
    use EndpointState as S;
    let state = prop_oneof![6 => Just(S::Active), 1 => Just(S::Suspended), 2 => Just(S::Draining), 1 => Just(S::Gone)];
    prop_oneof![
        8 => Just(Event::Arrive),
        6 => (0usize..8).prop_map(Event::Finish),
        2 => (0usize..8).prop_map(Event::Leave),
        1 => (0usize..8).prop_map(Event::Retry),
        5 => (0u64..4, 1u32..4, state).prop_map(|(sandbox, slots, state)| Event::Delta { sandbox, slots, state }),
        2 => (0u32..6, 0u64..4, any::<bool>())
            .prop_map(|(slots, min_idle_ms, drain)| Event::GrantCap { slots, min_idle_ms, drain }),
        1 => (0usize..8).prop_map(Event::Fail),
        1 => Just(Event::Review),
        1 => any::<bool>().prop_map(Event::Problem),
        1 => Just(Event::Resync),
        1 => (0..balance::policies().len(), 0u32..6)
            .prop_map(|(policy, concurrency)| Event::Configure { policy, concurrency }),
    ]
}

proptest! {
    #[test]
    fn slots_and_waits_are_exact_after_any_sequence_of_events(events in proptest::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            world.check();
        }
        // In the end everything is gone, and nothing is left over.
        while world.finish(0).is_some() {
            world.check();
        }
        world.change(FunctionState::remove);
        prop_assert!(world.waiting.is_empty(), "every wait has ended");
        prop_assert_eq!((world.state.held_slots(), world.state.running()), (0, 0));
    }
}
