//! Sampling the load of active functions, each period: proportional to their number, not to that of all functions.
//!
//! The period is cut into slices and each function belongs to one, so that what follows from samples (thousands of
//! sandboxes given up, say) comes spread over the period and not in one burst that new demand has to wait behind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{MissedTickBehavior, interval};

use crate::{function::Function, plane::Plane};

/// Parts of the period. With the period of a second one is 50 ms, and idle data planes wake twenty times a second.
const SLICES: u32 = 20;

/// Functions that have done something since the sample before last.
#[derive(Default)]
pub(crate) struct Sampled {
    slices: Mutex<[Vec<Arc<Function>>; SLICES as usize]>,
}

impl Sampled {
    /// `function` has become active; its state sees to it that it is not here twice.
    pub(crate) fn begin(&self, function: Arc<Function>) {
        let slice = usize::try_from(function.id().0 % u64::from(SLICES)).unwrap_or(0);
        self.lock()[slice].push(function);
    }

    fn take(&self, slice: usize) -> Vec<Arc<Function>> {
        std::mem::take(&mut self.lock()[slice])
    }

    fn lock(&self) -> MutexGuard<'_, [Vec<Arc<Function>>; SLICES as usize]> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Samples for ever.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut ticks = interval(plane.config.sample_period / SLICES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for slice in (0..SLICES as usize).cycle() {
        ticks.tick().await;
        let mut samples = Vec::new();
        for function in plane.sampled.take(slice) {
            let Some((sample, active)) = function.sample() else { continue };
            samples.push((function.clone(), sample));
            if active {
                plane.sampled.begin(function);
            }
        }
        if !samples.is_empty() {
            plane.reports.sample(samples);
        }
    }
}
