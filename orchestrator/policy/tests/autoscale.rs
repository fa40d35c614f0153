//! Properties of every autoscaling policy, over random histories.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use model::Scaling;
use policy::autoscale::{Autoscaler, Demand, Sample, Supply, find, policies};
use proptest::prelude::*;

#[test]
fn the_table_has_the_policies() {
    let names: Vec<_> = policies().iter().map(|policy| policy.name).collect();
    assert_eq!(names, ["reactive", "kpa", "dirigent"]);
    assert!(names.iter().all(|name| find(name).is_some()) && find("best").is_none());
}

prop_compose! {
    fn any_scaling()(
        min in 0u32..4, room in 0u32..20, bounded in any::<bool>(), stable in 1u64..40, panic in 1u64..40,
        threshold in 1.0f64..5.0, delay in 0u64..12, activation in 0u32..6, utilization in 0.1f64..1.0,
    ) -> Scaling {
        Scaling {
            min,
            max: bounded.then_some((min + room).max(1)),
            target_utilization: utilization,
            stable_window: Duration::from_secs(stable),
            panic_window: Some(Duration::from_secs(panic.min(stable))),
            panic_threshold: threshold,
            scale_down_delay: Duration::from_secs(delay),
            activation_scale: activation,
            ..Scaling::default()
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Demand changes; a decision follows if the policy is driven by demand.
    Demand { waiting: u32, running: u32 },
    /// A data plane reports; the sample's peak is at least the current load.
    Sample { source: u32, requests: u32, peak: u32 },
    /// This number of starting sandboxes become ready.
    Ready(u32),
    /// A ready sandbox is lost.
    Lost,
    /// Time passes; due decisions are made.
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..30, 0u32..30).prop_map(|(waiting, running)| Step::Demand { waiting, running }),
        2 => (0u32..3, 0u32..50, 0u32..60).prop_map(|(source, requests, peak)| Step::Sample { source, requests, peak }),
        3 => (1u32..20).prop_map(Step::Ready),
        1 => Just(Step::Lost),
        4 => (1u64..5_000).prop_map(Step::Wait),
    ]
}

/// A function whose decisions are applied at once, except that creations take until [`Step::Ready`].
struct Function {
    autoscaler: Autoscaler,
    scaling: Scaling,
    concurrency: u32,
    now_ms: u64,
    demand: Demand,
    ready: u32,
    starting: u32,
    due_ms: Option<u64>,
}

impl Function {
    fn decide(&mut self) -> Result<(), TestCaseError> {
        let supply = Supply { ready: self.ready, starting: self.starting, concurrency: self.concurrency };
        let decision = self.autoscaler.decide(self.now_ms, self.demand, supply);
        let (least, most) = (self.scaling.min, self.scaling.upper_bound());
        prop_assert!((least..=most).contains(&decision.sandboxes), "{decision:?} is beyond {least} to {most}");
        prop_assert!(decision.creations <= decision.sandboxes, "{decision:?} justifies more than it wants");
        prop_assert!(decision.again_in_ms != Some(0), "{decision:?} would never let time pass");
        let tick_ms = self.autoscaler.tick_ms();
        prop_assert!(tick_ms.is_none_or(|tick_ms| decision.again_in_ms.is_some_and(|again| again <= tick_ms)));
        self.due_ms = decision.again_in_ms.map(|ms| self.now_ms + ms);
        let exists = self.ready + self.starting;
        if decision.sandboxes >= exists {
            self.starting += decision.sandboxes - exists;
        } else {
            let surplus = exists - decision.sandboxes;
            let cut = surplus.min(self.starting);
            self.starting -= cut;
            self.ready -= surplus - cut;
        }
        Ok(())
    }

    fn happen(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Demand { waiting, running } => {
                self.demand = Demand { waiting, running };
                if self.autoscaler.on_demand() { self.decide() } else { Ok(()) }
            }
            Step::Sample { source, requests, peak } => {
                let Demand { waiting, running } = self.demand;
                let peak = peak.max(waiting + running);
                let concurrency_us = u64::from(peak) * 700_000;
                let sample = Sample { span_ms: 1_000, concurrency_us, requests, waiting, running, peak };
                self.autoscaler.record(self.now_ms, source, &sample);
                if self.autoscaler.on_demand() || self.due_ms.is_none() { self.decide() } else { Ok(()) }
            }
            Step::Ready(count) => {
                let count = count.min(self.starting);
                self.ready += count;
                self.starting -= count;
                self.decide()
            }
            Step::Lost => {
                self.ready = self.ready.saturating_sub(1);
                self.decide()
            }
            Step::Wait(ms) => {
                let until_ms = self.now_ms + ms;
                while let Some(due_ms) = self.due_ms.filter(|due_ms| *due_ms <= until_ms) {
                    self.now_ms = due_ms;
                    self.decide()?;
                }
                self.now_ms = until_ms;
                Ok(())
            }
        }
    }
}

proptest! {
    #[test]
    fn bounds_hold_demand_is_met_and_an_idle_state_is_reached(
        policy in 0..policies().len(), scaling in any_scaling(), concurrency in 1u32..9,
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let policy = &policies()[policy];
        let autoscaler = Autoscaler::new(policy, &scaling, concurrency);
        let demand = Demand::default();
        let (ready, starting, due_ms) = (0, 0, None);
        let mut function = Function { autoscaler, scaling, concurrency, now_ms: 0, demand, ready, starting, due_ms };
        function.decide()?;
        for step in steps {
            function.happen(step)?;
            let waits = function.demand.waiting > 0;
            let exists = function.ready + function.starting;
            prop_assert!(!waits || exists > 0 || function.due_ms.is_some(), "{}: nobody comes", policy.name);
        }
        // Without demand only the lower bound remains, and no further decision is due if it is zero.
        function.happen(Step::Demand { waiting: 0, running: 0 })?;
        function.happen(Step::Ready(u32::MAX))?;
        function.happen(Step::Wait(2_000_000))?;
        prop_assert_eq!(function.ready + function.starting, function.scaling.min, "{}", policy.name);
        prop_assert!(function.scaling.min > 0 || function.due_ms.is_none(), "{} never rests", policy.name);
    }
}
