//! `reactive` and each balancing policy in a closed loop with a modelled cluster: decisions take effect and feed back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;

use model::Scaling;
use policy::{
    autoscale::{self, Autoscaler, Decision, Demand, Sample, Supply},
    balance::{self, Slots},
};
use rand_pcg::Pcg32;

/// Time step of the model.
const STEP_MS: u64 = 10;

/// One function, one data plane, and a control plane that learns of demand at once.
struct Cluster {
    autoscaler: Autoscaler,
    slots: Slots<u32>,
    concurrency: u32,
    creation_ms: u64,
    now_ms: u64,
    /// Arrival times.
    waiting: VecDeque<u64>,
    /// (end, sandbox)
    running: Vec<(u64, u32)>,
    /// (ready, sandbox)
    starting: Vec<(u64, u32)>,
    created: u32,
    sample: Sample,
    due_ms: Option<u64>,
    max_wait_ms: u64,
}

impl Cluster {
    fn new(balance: &str, concurrency: u32, creation_ms: u64) -> Self {
        let policy = autoscale::find("reactive").unwrap();
        Self {
            autoscaler: Autoscaler::new(policy, &Scaling::default(), concurrency),
            slots: Slots::new(balance::find(balance).unwrap(), concurrency, Pcg32::new(1, 1)),
            concurrency,
            creation_ms,
            now_ms: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            starting: Vec::new(),
            created: 0,
            sample: Sample::default(),
            due_ms: None,
            max_wait_ms: 0,
        }
    }

    fn demand(&self) -> Demand {
        Demand {
            waiting: u32::try_from(self.waiting.len()).unwrap(),
            running: u32::try_from(self.running.len()).unwrap(),
        }
    }

    /// `arrivals` invocations of `execution_ms` arrive; then a step passes.
    fn step(&mut self, arrivals: u32, execution_ms: u64) {
        let now_ms = self.now_ms;
        let before = self.demand();
        self.running.retain(|&(end_ms, sandbox)| {
            if end_ms <= now_ms {
                self.slots.release(sandbox, now_ms);
            }
            end_ms > now_ms
        });
        for &(_, sandbox) in self.starting.iter().filter(|(ready_ms, _)| *ready_ms <= now_ms) {
            self.slots.insert(sandbox, self.concurrency, now_ms);
        }
        self.starting.retain(|(ready_ms, _)| *ready_ms > now_ms);
        self.waiting.extend((0..arrivals).map(|_| now_ms));
        while !self.waiting.is_empty() {
            let Some(sandbox) = self.slots.acquire() else { break };
            let arrived_ms = self.waiting.pop_front().unwrap();
            self.max_wait_ms = self.max_wait_ms.max(now_ms - arrived_ms);
            self.running.push((now_ms + execution_ms, sandbox));
        }
        self.report(arrivals);
        if before != self.demand() || self.due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.decide();
        }
        self.now_ms += STEP_MS;
    }

    /// Samples each second in which something happened.
    fn report(&mut self, arrivals: u32) {
        let Demand { waiting, running } = self.demand();
        let sample = &mut self.sample;
        sample.requests += arrivals;
        sample.peak = sample.peak.max(waiting + running);
        (sample.span_ms, sample.waiting, sample.running) = (1_000, waiting, running);
        sample.concurrency_us += u64::from(waiting + running) * STEP_MS * 1_000;
        if self.now_ms.is_multiple_of(1_000) {
            let sample = std::mem::take(sample);
            if sample.peak > 0 {
                self.autoscaler.record(self.now_ms, 0, &sample);
            }
        }
    }

    fn decide(&mut self) {
        let supply = Supply {
            ready: u32::try_from(self.slots.len()).unwrap(),
            starting: u32::try_from(self.starting.len()).unwrap(),
            concurrency: self.concurrency,
        };
        let decision: Decision = self.autoscaler.decide(self.now_ms, self.demand(), supply);
        for _ in supply.ready + supply.starting..decision.sandboxes {
            self.created += 1;
            self.starting.push((self.now_ms + self.creation_ms, self.created));
        }
        for _ in decision.sandboxes..supply.ready + supply.starting {
            let Some(idle) = self.slots.longest_idle(decision.min_idle_ms, self.now_ms) else { break };
            self.slots.remove(idle);
        }
        self.due_ms = decision.again_in_ms.map(|ms| self.now_ms + ms);
    }

    /// Runs without arrivals until no sandbox is left, and returns the time taken.
    fn idle_ms(&mut self) -> u64 {
        let start_ms = self.now_ms;
        while !(self.slots.is_empty() && self.starting.is_empty()) {
            self.step(0, 0);
            assert!(self.now_ms - start_ms < 200_000, "{} sandboxes never end", self.slots.len());
        }
        self.now_ms - start_ms
    }
}

#[test]
fn a_steady_load_creates_its_sandboxes_once() {
    for balance in balance::policies().iter().map(|policy| policy.name) {
        for (concurrency, creation_ms) in [(1, 0), (1, 100), (1, 2_000), (4, 100), (100, 500)] {
            let mut cluster = Cluster::new(balance, concurrency, creation_ms);
            // One invocation of 200 ms every 50 ms: four at once, and a backlog from the first creation.
            for step in 0..30_000u64 {
                cluster.step(u32::from(step.is_multiple_of(5)), 200);
            }
            let piled_up = u32::try_from(creation_ms / 50).unwrap() + 5;
            let created = cluster.created;
            assert!(created <= piled_up.div_ceil(concurrency), "{created} made with {concurrency}, {creation_ms} ms");
            assert!(cluster.max_wait_ms <= creation_ms + STEP_MS, "{} ms waited", cluster.max_wait_ms);
            let idle_ms = cluster.idle_ms();
            assert!((60_000..63_000).contains(&idle_ms), "{balance}: the last went after {idle_ms} ms");
            assert_eq!(cluster.created, created, "none was made for nothing");
        }
    }
}

#[test]
fn a_burst_of_a_thousand_creates_a_thousand_and_removes_them_once() {
    let mut cluster = Cluster::new("least-loaded", 1, 40);
    cluster.step(1_000, 1_000);
    for _ in 0..200 {
        cluster.step(0, 0);
    }
    assert_eq!((cluster.created, cluster.max_wait_ms), (1_000, 40));
    // From now on one invocation at a time needs one sandbox; the others go after the stable window.
    for step in 0..10_000u64 {
        cluster.step(u32::from(step.is_multiple_of(20)), 100);
    }
    assert_eq!((cluster.created, cluster.slots.len()), (1_000, 1));
}

#[test]
fn requests_further_apart_than_a_window_but_within_the_keep_alive_stay_warm() {
    let mut cluster = Cluster::new("least-loaded", 1, 100);
    for _ in 0..10 {
        cluster.step(1, 50);
        for _ in 0..5_950 {
            cluster.step(0, 0);
        }
    }
    assert_eq!(cluster.created, 1, "59.5 s apart with a keep-alive of 60 s");
}
