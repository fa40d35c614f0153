//! A workload in a few figures: for `inspect`, and for a run's manifest.

use serde::Serialize;

use crate::{
    ScheduleOptions, Workload,
    quantity::{milliseconds, real, real_len},
};

/// A workload in a few figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Functions in the trace.
    pub functions: usize,
    /// Functions with at least one invocation.
    pub active: usize,
    /// Minutes covered.
    pub minutes: u32,
    /// Invocations.
    pub invocations: u64,
    /// Invocations per second, over the window as the options stretch or compress it.
    pub per_second: f64,
    /// Invocations in the busiest minute.
    pub busiest_minute: u64,
    /// Execution in cores as it will be drawn, on average over seeds: count times [`crate::RunTime::mean_within_ms`].
    pub cores: f64,
    /// Execution in cores by the averages that the trace states; `None` when it states none.
    pub cores_by_average: Option<f64>,
    /// Execution started in the busiest minute, in cores, as it will be drawn.
    pub busiest_cores: f64,
    /// The sum of what one sandbox of each active function reserves, in MiB.
    pub memory_mib: f64,
    /// Share of the active functions with at most 1 invocation per hour, minute and second on average.
    pub share_hourly_minutely_secondly: [f64; 3],
    /// Functions of each kind of trigger, the most frequent first.
    pub triggers: Vec<(String, usize)>,
}

impl Workload {
    /// The figures of this workload when it is run with `options` (its bounds on the run time and its length of a minute).
    #[must_use]
    pub fn summary(&self, options: &ScheduleOptions) -> Summary {
        let window_s = options.minute.as_secs_f64() * f64::from(self.minutes);
        let over_window = |sum: f64| if window_s > 0.0 { sum / window_s } else { 0.0 };
        let active: Vec<_> = self.active().collect();
        let mean_s = |function: &crate::FunctionProfile| mean_run_s(function, options);
        let minutes = 0..self.minutes as usize;
        let started =
            minutes.clone().map(|minute| active.iter().map(|function| u64::from(function.counts[minute])).sum());
        let executed_s = minutes.map(|minute| {
            active.iter().map(|function| f64::from(function.counts[minute]) * mean_s(function)).sum::<f64>()
        });
        let stated_s =
            active.iter().map(|function| Some(real(function.total()) * function.run_time.average_ms? / 1000.0));
        let rates: Vec<f64> = active.iter().map(|function| over_window(real(function.total()))).collect();
        let share = |period_s: f64| {
            let slow = rates.iter().filter(|&&rate| rate <= 1.0 / period_s).count();
            if rates.is_empty() { 0.0 } else { real_len(slow) / real_len(rates.len()) }
        };
        Summary {
            functions: self.functions.len(),
            active: active.len(),
            minutes: self.minutes,
            invocations: self.total(),
            per_second: over_window(real(self.total())),
            busiest_minute: started.max().unwrap_or(0),
            cores: over_window(active.iter().map(|function| real(function.total()) * mean_s(function)).sum()),
            cores_by_average: stated_s.sum::<Option<f64>>().map(over_window),
            busiest_cores: executed_s.fold(0.0, f64::max) / options.minute.as_secs_f64().max(f64::MIN_POSITIVE),
            memory_mib: active.iter().map(|function| function.memory.max_mib().ceil().max(1.0)).sum(),
            share_hourly_minutely_secondly: [share(3600.0), share(60.0), share(1.0)],
            triggers: self.triggers(),
        }
    }

    fn triggers(&self) -> Vec<(String, usize)> {
        let mut counted = std::collections::BTreeMap::<&str, usize>::new();
        for function in &self.functions {
            *counted.entry(&function.trigger).or_default() += 1;
        }
        let mut triggers: Vec<_> = counted.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        triggers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        triggers
    }
}

/// Mean run time of `function` as it will be drawn within the options' bounds, in seconds.
pub(crate) fn mean_run_s(function: &crate::FunctionProfile, options: &ScheduleOptions) -> f64 {
    let max_ms = options.max_run.map_or(f64::INFINITY, milliseconds);
    function.run_time.clamped_mean_ms(milliseconds(options.min_run), max_ms) / 1000.0
}
