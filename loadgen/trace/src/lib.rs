//! Traces and schedules: a trace is read or made, cut, sampled, and turned into a schedule of what to send and when.
//! A [`Workload`] is what a trace says (counts per minute, percentiles); a [`Schedule`] is a value made from it before
//! the run, the same bytes for the same input and seed. This crate reads and writes files and does nothing else.

mod arrivals;
mod error;
pub mod formats;
mod names;
mod percentiles;
mod quantity;
pub mod rate;
mod report;
mod sample;
mod schedule;
mod schedule_file;
mod stream;
mod summary;
pub mod synthetic;
mod table;
mod workload;

pub use arrivals::Arrivals;
pub use error::TraceError;
pub use formats::{
    azure2019,
    azure2021::{self, ExactTrace},
};
pub use names::{LABEL, is_label};
pub use percentiles::{Memory, PercentileError, RunTime};
pub use report::LoadReport;
pub use sample::{SampleOptions, SampleReport, check_sample, sample};
pub use schedule::{Due, MAX_MEMORY_MIB, MAX_SCHEDULED, Phase, Schedule, ScheduleOptions, ScheduledFunction};
pub use summary::Summary;
pub use workload::{FunctionProfile, Workload};
