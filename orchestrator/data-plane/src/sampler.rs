//! Sampling the load of active functions, each period: proportional to their number, not to that of all functions.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{MissedTickBehavior, interval};

use crate::{function::Function, plane::Plane};

/// Functions that have done something since the sample before last.
#[derive(Default)]
pub(crate) struct Sampled {
    functions: Mutex<Vec<Arc<Function>>>,
}

impl Sampled {
    /// `function` has become active; its state sees to it that it is not here twice.
    pub(crate) fn begin(&self, function: Arc<Function>) {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).push(function);
    }

    /// The active functions.
    pub(crate) fn all(&self) -> Vec<Arc<Function>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self) -> Vec<Arc<Function>> {
        std::mem::take(&mut *self.functions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Samples for ever.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut ticks = interval(plane.config.sample_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut samples = Vec::new();
        for function in plane.sampled.take() {
            let (sample, active) = function.sample();
            samples.push(sample);
            if active {
                plane.sampled.begin(function);
            }
        }
        if !samples.is_empty() {
            plane.reports.sample(samples);
        }
    }
}
