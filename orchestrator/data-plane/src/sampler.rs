//! Samples the load of active functions once per period; the cost is proportional to their number, not to that of all
//! functions.
//!
//! The period is divided into slices and each function belongs to one, so that the consequences of samples (thousands
//! of returned sandboxes, for example) are spread over the period. In one burst they would delay new demand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{MissedTickBehavior, interval};

use crate::{function::Function, plane::Plane};

/// Slices of the period. With a period of 1 s a slice takes 50 ms, so an idle data plane wakes twenty times a second.
const SLICES: u32 = 20;

/// Functions that were active in one of the last two samples.
#[derive(Default)]
pub(crate) struct Sampled {
    slices: Mutex<[Vec<Arc<Function>>; SLICES as usize]>,
}

impl Sampled {
    /// Adds a function that has become active. [`FunctionState`](crate::function::FunctionState) prevents that it is
    /// added twice.
    pub(crate) fn begin(&self, function: Arc<Function>) {
        // By id, so that a function stays in its slice and its spans have equal length.
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

/// Takes samples and never returns.
pub(crate) async fn run(plane: Arc<Plane>) {
    let mut ticks = interval(plane.config.sample_period / SLICES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for slice in (0..SLICES as usize).cycle() {
        ticks.tick().await;
        let mut samples = Vec::new();
        // The slice is emptied as a whole; functions that are still active enter it again.
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
