//! The content of a trace: each function's invocations per minute and the distributions of its run time and memory.
//! Every reader and generator ends here, and everything after (cut, sample, schedule) starts here.

use serde::Serialize;

use crate::{
    LoadReport, Memory, RunTime, ScheduleOptions, TraceError, quantity::milliseconds, schedule::check_options,
};

/// A trace in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its functions, each with exactly `minutes` counts; names are unique.
    pub functions: Vec<FunctionProfile>,
    /// Number of minutes that the trace covers.
    pub minutes: u32,
    /// The label of the first minute in the file: 1 in the published trace, 480 in a sample of its working day.
    pub first_minute: u32,
    /// The findings of reading it.
    pub report: LoadReport,
}

/// One function of a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionProfile {
    /// The name it is registered under: a DNS label, unique in the workload.
    pub name: String,
    /// Its owner, as in the trace.
    pub owner: String,
    /// Its application, as in the trace.
    pub app: String,
    /// Itself, as in the trace. Owner, application and function together are its identity.
    pub function: String,
    /// Its kind of trigger (`http`, `timer`, `queue`, …); empty when the trace does not say.
    pub trigger: String,
    /// Invocations in each minute.
    pub counts: Vec<u32>,
    /// Distribution of its run time.
    pub run_time: RunTime,
    /// Distribution of its memory.
    pub memory: Memory,
}

impl FunctionProfile {
    /// Invocations over all minutes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }
}

impl Workload {
    /// Invocations of all functions over all minutes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.functions.iter().map(FunctionProfile::total).sum()
    }

    /// The functions that are invoked at least once.
    pub fn active(&self) -> impl Iterator<Item = &FunctionProfile> {
        self.functions.iter().filter(|function| function.counts.iter().any(|&count| count > 0))
    }

    /// Keeps `minutes` minutes from `start_minute` on, counted from 0 at the trace's first minute whatever its label.
    /// Functions stay, also those with no invocation left.
    ///
    /// # Errors
    /// [`TraceError::Option`] when the window is empty or reaches past the trace's end.
    pub fn cut(&mut self, start_minute: u32, minutes: u32) -> Result<(), TraceError> {
        check_window(self.minutes, start_minute, minutes)?;
        for function in &mut self.functions {
            function.counts.truncate((start_minute + minutes) as usize);
            function.counts.drain(..start_minute as usize);
        }
        self.minutes = minutes;
        self.first_minute += start_minute;
        Ok(())
    }

    /// Holds every percentile of the run times within the options' bounds, for a trace that is to have them itself. The
    /// least that invocations are given without an option is left to those who draw them.
    ///
    /// # Errors
    /// [`TraceError::Option`] when an option is outside its range.
    pub fn clamp_run_times(&mut self, options: &ScheduleOptions) -> Result<(), TraceError> {
        check_options(options)?;
        let least =
            Some(options.min_run).filter(|&least| least > ScheduleOptions::default().min_run).unwrap_or_default();
        let bounds_ms = (milliseconds(least), options.max_run.map_or(f64::INFINITY, milliseconds));
        for function in &mut self.functions {
            function.run_time = function.run_time.clamped(bounds_ms);
        }
        Ok(())
    }
}

/// Refuses a window of `minutes` from `start_minute` on that is empty or not within a trace of `length` minutes.
pub(crate) fn check_window(length: u32, start_minute: u32, minutes: u32) -> Result<(), TraceError> {
    let refused = |option, problem| Err(TraceError::Option { option, problem });
    let Some(left) = length.checked_sub(start_minute).filter(|left| *left > 0) else {
        let last = length.saturating_sub(1);
        return refused(
            "start-minute",
            format!("expected 0 to {last} of a trace of {length} minutes, found {start_minute}"),
        );
    };
    if !(1..=left).contains(&minutes) {
        let rest = if start_minute == 0 { String::new() } else { format!(" from minute {start_minute} on") };
        return refused("minutes", format!("expected 1 to {left}, which the trace has{rest}, found {minutes}"));
    }
    Ok(())
}
