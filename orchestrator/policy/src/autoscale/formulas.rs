//! Knative's formulas, from averages of concurrency to a count of sandboxes: target, rate limits, activation scale and
//! panic mode.
//!
//! Reimplemented from the formulas of Knative Serving 1.13, pkg/autoscaler/scaling/autoscaler.go. `kpa` and `dirigent`
//! share them and differ in what they average.

use std::time::Duration;

use model::Scaling;

/// Knative's default of container-concurrency-target-default, for functions without a bound on concurrency.
const DEFAULT_TOTAL: f64 = 100.0;
/// Knative's least target.
const MIN_TARGET: f64 = 0.01;
/// Knative's longest window (and delay), in milliseconds; it bounds the memory of an active function.
const MAX_WINDOW_MS: u64 = 3_600_000;

/// Parameters, as the formulas want them.
#[derive(Debug)]
pub(super) struct Formulas {
    /// Concurrency aimed at in one sandbox.
    target: f64,
    panic_threshold: f64,
    max_up_rate: f64,
    max_down_rate: f64,
    /// Panic mode ends when its threshold was not exceeded for longer than this.
    stable_window_ms: u64,
    activation_scale: u32,
}

/// Inputs of the formulas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// Average concurrency over the stable window.
    pub(super) stable: f64,
    /// Average concurrency over the panic window.
    pub(super) panic: f64,
    /// Existing sandboxes.
    pub(super) sandboxes: u32,
}

/// Panic mode: while it lasts, nothing is scaled down.
#[derive(Debug, Default)]
pub(super) struct Panic {
    /// Last time the threshold was exceeded; `None` outside panic mode.
    since_ms: Option<u64>,
    /// Greatest number desired in this panic, kept until its end.
    max_desired: u32,
}

impl Formulas {
    pub(super) fn new(scaling: &Scaling, concurrency: u32, stable_window_ms: u64) -> Self {
        let bounded = (concurrency > 0).then(|| f64::from(concurrency));
        let total = match (scaling.target, bounded) {
            (Some(target), Some(bound)) => target.min(bound),
            (Some(target), None) => target,
            (None, bound) => bound.unwrap_or(DEFAULT_TOTAL),
        };
        Self {
            target: (total * scaling.target_utilization).max(MIN_TARGET),
            panic_threshold: scaling.panic_threshold,
            max_up_rate: scaling.max_scale_up_rate,
            max_down_rate: scaling.max_scale_down_rate,
            stable_window_ms,
            activation_scale: scaling.activation_scale,
        }
    }

    /// The same without an activation scale.
    pub(super) fn without_activation_scale(self) -> Self {
        Self { activation_scale: 1, ..self }
    }
}

impl Panic {
    /// Starts in panic mode, so that `sandboxes` are not scaled down before there is data.
    pub(super) fn from_start(now_ms: u64, sandboxes: u32) -> Self {
        Self { since_ms: Some(now_ms), max_desired: sandboxes }
    }

    /// The sandboxes desired, in the formulas' order: rate limits, activation scale, panic mode.
    pub(super) fn desired(&mut self, now_ms: u64, observed: Observed, formulas: &Formulas) -> u32 {
        // As in Knative: from zero, a rate relative to what is ready would allow nothing.
        let sandboxes = f64::from(observed.sandboxes.max(1));
        let upper = (formulas.max_up_rate * sandboxes).ceil();
        let lower = (sandboxes / formulas.max_down_rate).floor();
        let stable_wants = (observed.stable / formulas.target).ceil();
        let panic_wants = (observed.panic / formulas.target).ceil();
        let limited = |wants: f64| {
            let desired = count(wants.max(lower).min(upper));
            if formulas.activation_scale > 1 && wants > 0.0 { desired.max(formulas.activation_scale) } else { desired }
        };
        let desired = limited(stable_wants);

        let is_over = panic_wants / sandboxes >= formulas.panic_threshold;
        if is_over {
            self.since_ms = Some(now_ms);
        } else if self.since_ms.is_some_and(|since_ms| since_ms + formulas.stable_window_ms < now_ms) {
            *self = Self::default();
        }
        if self.since_ms.is_none() {
            return desired;
        }
        self.max_desired = self.max_desired.max(desired).max(limited(panic_wants));
        self.max_desired
    }
}

/// The milliseconds of a window, or of a delay, within Knative's bound.
pub(super) fn window_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).map_or(MAX_WINDOW_MS, |ms| ms.min(MAX_WINDOW_MS))
}

/// A whole number of sandboxes; beyond the greatest count it is that, like Rust's own conversion.
#[allow(clippy::cast_possible_truncation, reason = "whole, not negative, and saturating is wanted")]
fn count(whole: f64) -> u32 {
    whole as u32
}
