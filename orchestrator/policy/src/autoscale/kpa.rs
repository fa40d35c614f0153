//! Autoscaling `kpa`: Knative's pod autoscaler, so that both systems can run the same policy.
//!
//! Reimplemented from the behaviour of Knative Serving 1.13, pkg/autoscaler/scaling/autoscaler.go (metric: concurrency;
//! target-burst-capacity −1, so that excess burst capacity plays no part). The averages are in `window.rs`, the
//! formulas in `formulas.rs`, the way to zero in `service_state.rs`.

use model::Scaling;

use super::{
    Decision, Demand, Policy, Rule, Sample, Supply,
    formulas::{Formulas, Observed, Panic, window_ms},
    peaks::Peaks,
    service_state::{Context, ServiceState},
    window::Window,
};

pub(super) const POLICY: Policy = Policy {
    name: "kpa",
    about: "Knative's pod autoscaler: average concurrency over a stable and a panic window, decided every 2 s",
    uses_keep_alive: false,
    start: |scaling, concurrency| Box::new(Kpa::new(scaling, concurrency)),
};

/// Knative's tick.
const TICK_MS: u64 = 2_000;
/// Knative's bucket: samples within it add up.
const BUCKET_MS: u64 = 1_000;
/// The unit of averages: one invocation running all the time.
const ONE: u64 = 1_000_000;
/// A sample covers a second and may be a second late; a later one does not cover the first request.
const EARLY_COUNT_TTL_MS: u64 = 2 * BUCKET_MS;

/// The autoscaler of one function.
#[derive(Debug)]
struct Kpa {
    parameters: Parameters,
    /// Set by the first decision.
    service_state: Option<ServiceState>,
    /// From the first sample until a stable window after the last.
    history: Option<Box<History>>,
    /// Last result of the formulas, before bounds; initially 0, which is Knative's initial-scale 0.
    desired: u32,
    /// Time of the first decision, the origin of the ticks.
    initial_tick_ms: u64,
    next_tick_ms: u64,
    /// Time at which the first request was counted before its sample arrived; that sample then counts one less.
    early_count_ms: Option<u64>,
    /// Ticks are needed.
    is_active: bool,
}

/// Parameters, as the formulas want them.
#[derive(Debug)]
struct Parameters {
    formulas: Formulas,
    stable_window_ms: u64,
    grace_ms: u64,
    /// Seconds.
    stable_len: u64,
    /// Seconds.
    panic_len: u64,
    /// Ticks; 0: no delay.
    delay_len: u64,
    min: u32,
    max: u32,
}

/// Observations of an active function.
#[derive(Debug)]
struct History {
    stable: Window,
    panic: Window,
    mode: Panic,
    /// Desired counts within the scale-down delay, by tick.
    delayed: Peaks,
}

impl Parameters {
    fn new(scaling: &Scaling, concurrency: u32) -> Self {
        let stable_window_ms = window_ms(scaling.stable_window);
        Self {
            formulas: Formulas::new(scaling, concurrency, stable_window_ms),
            stable_window_ms,
            grace_ms: window_ms(scaling.scale_to_zero_grace),
            stable_len: stable_window_ms.div_ceil(BUCKET_MS),
            panic_len: window_ms(scaling.panic_window()).div_ceil(BUCKET_MS),
            delay_len: window_ms(scaling.scale_down_delay).div_ceil(TICK_MS),
            min: scaling.min.min(scaling.upper_bound()),
            max: scaling.upper_bound(),
        }
    }

    fn context(&self) -> Context {
        Context { stable_window_ms: self.stable_window_ms, grace_ms: self.grace_ms }
    }
}

impl History {
    fn new(parameters: &Parameters) -> Box<Self> {
        Box::new(Self {
            stable: Window::new(parameters.stable_len),
            panic: Window::new(parameters.panic_len),
            mode: Panic::default(),
            delayed: Peaks::default(),
        })
    }

    fn record(&mut self, now_ms: u64, concurrency: u64) {
        self.stable.record(now_ms / BUCKET_MS, concurrency);
        self.panic.record(now_ms / BUCKET_MS, concurrency);
    }

    /// The sandboxes desired by the formulas and the scale-down delay. `None` without data: then the previous result
    /// stays.
    fn desired(&mut self, now_ms: u64, ready: u32, parameters: &Parameters) -> Option<u32> {
        let second = now_ms / BUCKET_MS;
        if self.stable.is_empty(second) {
            return None;
        }
        let average = |window: &Window| window.average(second) as f64 / ONE as f64;
        let observed = Observed { stable: average(&self.stable), panic: average(&self.panic), sandboxes: ready };
        let desired = self.mode.desired(now_ms, observed, &parameters.formulas);
        if parameters.delay_len == 0 {
            return Some(desired);
        }
        let tick = now_ms / TICK_MS;
        self.delayed.record(tick, desired);
        self.delayed.forget_before((tick + 1).saturating_sub(parameters.delay_len));
        Some(self.delayed.max())
    }
}

impl Kpa {
    fn new(scaling: &Scaling, concurrency: u32) -> Self {
        Self {
            parameters: Parameters::new(scaling, concurrency),
            service_state: None,
            history: None,
            desired: 0,
            initial_tick_ms: 0,
            next_tick_ms: 0,
            early_count_ms: None,
            is_active: false,
        }
    }

    fn history(&mut self) -> &mut History {
        let parameters = &self.parameters;
        self.history.get_or_insert_with(|| History::new(parameters))
    }

    /// Makes the first decision. Knative's autoscaler starts in panic mode if it finds more than one sandbox, so that
    /// they are not scaled down before there is data.
    fn begin(&mut self, now_ms: u64, supply: Supply) {
        self.service_state = Some(ServiceState::new(now_ms, supply));
        self.initial_tick_ms = now_ms;
        self.next_tick_ms = now_ms;
        if supply.ready > 1 {
            self.history().mode = Panic::from_start(now_ms, supply.ready);
        }
    }

    /// Returns true if the first request was counted and no sample covers it yet.
    fn has_early_count(&self, now_ms: u64) -> bool {
        self.early_count_ms.is_some_and(|at_ms| now_ms - at_ms < EARLY_COUNT_TTL_MS)
    }

    /// Applies the formulas at a tick, or at once for the first request of a function scaled to zero.
    fn evaluate(&mut self, now_ms: u64, demanded: u32, supply: Supply) {
        let is_scale_from_zero = self.desired == 0 && demanded > 0;
        if is_scale_from_zero && !self.has_early_count(now_ms) {
            // The activator reports a revision's first request at once, as a concurrency of 1.
            self.history().record(now_ms, ONE);
            self.early_count_ms = Some(now_ms);
        }
        if now_ms < self.next_tick_ms && !is_scale_from_zero {
            return;
        }
        self.next_tick_ms = now_ms - (now_ms - self.initial_tick_ms) % TICK_MS + TICK_MS;
        if supply.ready > 0 {
            // Knative reads its sandboxes every second, which leaves a bucket also when nothing runs. With a
            // target-burst-capacity of −1 it does not: its activator reports one second of nothing and then no more,
            // and silence shortens the windows instead. Here every second counts.
            self.history().record(now_ms, 0);
        }
        let parameters = &self.parameters;
        let desired = self.history.as_mut().and_then(|history| history.desired(now_ms, supply.ready, parameters));
        // Without data Knative keeps its result, forever if nothing becomes ready. Here the absence of demand is known.
        self.desired = desired.unwrap_or(if demanded == 0 { 0 } else { self.desired });
    }

    /// Milliseconds until the next decision: the next tick while active, otherwise the expiry of the history, which is
    /// then freed.
    fn again_in_ms(&mut self, now_ms: u64) -> Option<u64> {
        if self.is_active {
            return Some(self.next_tick_ms.saturating_sub(now_ms).max(1));
        }
        let last_write = self.history.as_ref()?.stable.last_write();
        let ends_ms = last_write.map_or(0, |second| (second + self.parameters.stable_len + 1) * BUCKET_MS);
        if ends_ms > now_ms {
            return Some(ends_ms - now_ms);
        }
        self.history = None;
        None
    }
}

impl Rule for Kpa {
    fn retune(&mut self, scaling: &Scaling, concurrency: u32) {
        self.parameters = Parameters::new(scaling, concurrency);
        if let Some(history) = &mut self.history {
            history.stable.resize(self.parameters.stable_len);
            history.panic.resize(self.parameters.panic_len);
        }
    }

    fn record(&mut self, now_ms: u64, _source: u32, sample: &Sample) {
        let span_ms = if sample.span_ms == 0 { BUCKET_MS } else { sample.span_ms.into() };
        // Microseconds of invocations over milliseconds: a thousandth of `ONE`.
        let mut concurrency = sample.concurrency_us.saturating_mul(ONE / BUCKET_MS) / span_ms;
        if self.has_early_count(now_ms) {
            concurrency = concurrency.saturating_sub(ONE);
        }
        self.early_count_ms = None;
        self.is_active |= concurrency > 0;
        self.history().record(now_ms, concurrency);
    }

    fn decide(&mut self, now_ms: u64, demand: Demand, supply: Supply) -> Decision {
        if self.service_state.is_none() {
            self.begin(now_ms, supply);
        }
        let demanded = demand.waiting.saturating_add(demand.running);
        self.evaluate(now_ms, demanded, supply);
        let desired = self.desired.clamp(self.parameters.min, self.parameters.max);
        let service_state = self.service_state.get_or_insert_with(|| ServiceState::new(now_ms, supply));
        let (requested, service_ms) =
            service_state.requested_sandboxes(now_ms, desired, supply, self.parameters.context());
        let sandboxes = requested.clamp(self.parameters.min, self.parameters.max);

        self.is_active = [self.desired, demanded, supply.ready, supply.starting].iter().any(|&n| n > 0);
        let tick_ms = self.again_in_ms(now_ms);
        Decision {
            sandboxes,
            creations: sandboxes.saturating_sub(supply.ready),
            // Knative reduces the number of pods without regard to which are busy; those drain.
            min_idle_ms: 0,
            drain: true,
            again_in_ms: tick_ms.into_iter().chain(service_ms).min(),
        }
    }

    fn on_demand(&self) -> bool {
        self.desired == 0
    }

    fn tick_ms(&self) -> Option<u64> {
        self.is_active.then_some(TICK_MS)
    }
}
