//! Autoscaling `dirigent`: the policy of the published system, so that both can run the same one.
//!
//! Reimplemented from the behaviour of its default autoscaler (eth-easl/dirigent, internal/control_plane). It follows
//! the formulas that `kpa` follows, except that
//!
//!  * concurrency is what waits and runs at the instant of a tick, not an average over time; the windows, and so the way
//!    down, are averages of these instants;
//!  * the first request creates one sandbox at once and starts the ticks; a decision for none ends them;
//!  * a sandbox counts from the decision to create it;
//!  * there is no activation scale, scale-down delay or grace, and its own defaults aim at the whole concurrency
//!    (`target_utilization` 1), where a function here has Knative's.
//!
//! One thing is added: the last sandbox stays until there was no demand during a whole stable window. There, a function
//! whose invocations are shorter than the ticks are apart loses it once every instant in the window missed them, at
//! first after 2 s.

use model::Scaling;

use super::{
    Decision, Demand, Policy, Rule, Sample, Supply,
    formulas::{Formulas, Observed, Panic, window_ms},
    window::Window,
};

pub(super) const POLICY: Policy = Policy {
    name: "dirigent",
    about: "the published system's: Knative's formulas over the concurrency at each tick of 2 s, the first sandbox at once",
    uses_keep_alive: false,
    start: |scaling, concurrency| Box::new(Dirigent::new(scaling, concurrency)),
};

/// Autoscaling period of the published system.
const TICK_MS: u64 = 2_000;
/// The unit of averages: one invocation.
const ONE: u64 = 1_000_000;

/// The autoscaler of one function.
#[derive(Debug)]
struct Dirigent {
    parameters: Parameters,
    /// From the first request until no sandbox is desired.
    active: Option<Box<Active>>,
    /// Last known demand; `None` before the function is first seen.
    last_demand_ms: Option<u64>,
}

/// Parameters, as the formulas want them.
#[derive(Debug)]
struct Parameters {
    formulas: Formulas,
    stable_window_ms: u64,
    /// Ticks.
    stable_len: u64,
    /// Ticks.
    panic_len: u64,
    min: u32,
    max: u32,
}

/// Observations of an active function.
#[derive(Debug)]
struct Active {
    stable: Window,
    panic: Window,
    mode: Panic,
    /// Ticks so far, the number of the newest bucket. A late tick leaves no gap.
    ticks: u64,
    /// Time at which it became active, the origin of its ticks.
    since_ms: u64,
    next_tick_ms: u64,
    /// Result of the last tick, within bounds.
    desired: u32,
}

impl Parameters {
    fn new(scaling: &Scaling, concurrency: u32) -> Self {
        let stable_window_ms = window_ms(scaling.stable_window);
        let max = scaling.upper_bound();
        Self {
            formulas: Formulas::new(scaling, concurrency, stable_window_ms).without_activation_scale(),
            stable_window_ms,
            // Whole ticks, as in the published system; [`Window`] has at least one.
            stable_len: stable_window_ms / TICK_MS,
            panic_len: window_ms(scaling.panic_window()) / TICK_MS,
            min: scaling.min.min(max),
            max,
        }
    }
}

impl Active {
    fn new(now_ms: u64, desired: u32, parameters: &Parameters) -> Box<Self> {
        Box::new(Self {
            stable: Window::new(parameters.stable_len),
            panic: Window::new(parameters.panic_len),
            mode: Panic::default(),
            ticks: 0,
            since_ms: now_ms,
            next_tick_ms: now_ms + TICK_MS,
            desired: desired.clamp(parameters.min, parameters.max),
        })
    }

    fn tick(&mut self, now_ms: u64, demanded: u32, sandboxes: u32, parameters: &Parameters) {
        self.next_tick_ms = now_ms - (now_ms - self.since_ms) % TICK_MS + TICK_MS;
        self.ticks += 1;
        let concurrency = u64::from(demanded) * ONE;
        let average = |window: &mut Window| {
            window.record(self.ticks, concurrency);
            window.average(self.ticks) as f64 / ONE as f64
        };
        let (stable, panic) = (average(&mut self.stable), average(&mut self.panic));
        let desired = self.mode.desired(now_ms, Observed { stable, panic, sandboxes }, &parameters.formulas);
        self.desired = desired.clamp(parameters.min, parameters.max);
    }
}

impl Dirigent {
    fn new(scaling: &Scaling, concurrency: u32) -> Self {
        Self { parameters: Parameters::new(scaling, concurrency), active: None, last_demand_ms: None }
    }

    /// Returns true if there was demand within the stable window.
    fn had_recent_demand(&self, now_ms: u64) -> bool {
        self.last_demand_ms.is_some_and(|demand_ms| now_ms.saturating_sub(demand_ms) < self.parameters.stable_window_ms)
    }

    fn evaluate(&mut self, now_ms: u64, demanded: u32, sandboxes: u32) -> u32 {
        // Sandboxes found for the first time may just have been used.
        if demanded > 0 || (self.last_demand_ms.is_none() && sandboxes > 0) {
            self.last_demand_ms = Some(now_ms);
        }
        let keeps_last = self.had_recent_demand(now_ms);
        match &mut self.active {
            None if demanded > 0 || (keeps_last && sandboxes > 0) => {
                self.active = Some(Active::new(now_ms, sandboxes.max(1), &self.parameters));
            }
            Some(active) if now_ms >= active.next_tick_ms => {
                active.tick(now_ms, demanded, sandboxes, &self.parameters);
                active.desired = active.desired.max(u32::from(keeps_last)).min(self.parameters.max);
            }
            _ => {}
        }
        // Changed bounds apply at once; the rest is the result of the last tick.
        let desired =
            self.active.as_ref().map_or(0, |active| active.desired).clamp(self.parameters.min, self.parameters.max);
        if desired == 0 {
            self.active = None;
        }
        desired
    }
}

impl Rule for Dirigent {
    fn retune(&mut self, scaling: &Scaling, concurrency: u32) {
        self.parameters = Parameters::new(scaling, concurrency);
        if let Some(active) = &mut self.active {
            active.stable.resize(self.parameters.stable_len);
            active.panic.resize(self.parameters.panic_len);
        }
    }

    fn record(&mut self, now_ms: u64, _source: u32, sample: &Sample) {
        if sample.requests > 0 || sample.peak > 0 {
            self.last_demand_ms = Some(now_ms);
        }
    }

    fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision {
        let demanded = demand.waiting.saturating_add(demand.running);
        let exists = supply.ready.saturating_add(supply.starting);
        let sandboxes = self.evaluate(now_ms, demanded, exists);
        let next_tick_ms = self.active.as_ref().map(|active| active.next_tick_ms.saturating_sub(now_ms).max(1));
        Decision {
            sandboxes,
            creations: sandboxes.saturating_sub(supply.ready),
            min_idle_ms: 0,
            drain: true,
            // Without ticks, check again for surplus that could not be removed yet.
            again_in_ms: next_tick_ms.or((exists > sandboxes).then_some(TICK_MS)),
        }
    }

    fn on_demand(&self) -> bool {
        self.active.is_none()
    }

    fn tick_ms(&self) -> Option<u64> {
        self.active.is_some().then_some(TICK_MS)
    }
}
