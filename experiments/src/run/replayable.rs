//! Checks that a load can be replayed before anything is built or a directory is made, with errors in terms of the
//! options typed. The load generator would refuse the same minutes later, in terms of its own options.

use std::path::Path;

use trace::{
    MAX_SCHEDULED, SampleOptions, ScheduleOptions, TraceError, Workload, azure2019, check_sample,
    synthetic::{self, MAX_MINUTES, Shape},
};

use crate::{
    definition::{
        load::{Rate, Source, Trace},
        points::Point,
    },
    exit::UsageError,
};

/// Options of the load generator that its messages about a trace name, and `repro` does not have.
const OF_LOADGEN: [&str; 3] = ["--missing", "--duplicates", "--day"];

/// Refuses a load that cannot be replayed, as far as that is known before its schedules are made.
///
/// # Errors
/// If there is one, with what is expected instead.
pub fn check(points: &[Point]) -> Result<(), UsageError> {
    // Points seldom differ in their trace, which may take seconds to read.
    let mut known: Vec<(&Trace, u64)> = Vec::new();
    for point in points {
        let settings = &point.settings;
        match &settings.load.source {
            Source::Rate(rate) => check_rate(rate, point)?,
            Source::Trace(load) if known.contains(&(load, settings.seed)) => {}
            Source::Trace(load) => {
                match load.trace.as_deref() {
                    Some(folder) => check_workload(read(folder)?, load, settings.seed)?,
                    None => check_synthetic(load, settings.seed)?,
                }
                known.push((load, settings.seed));
            }
        }
    }
    Ok(())
}

/// A schedule of a rate is held in memory as a whole.
fn check_rate(rate: &Rate, point: &Point) -> Result<(), UsageError> {
    let seconds = point.settings.load.length().as_secs_f64();
    let most = MAX_SCHEDULED as f64;
    if rate.rate_per_s * seconds <= most {
        return Ok(());
    }
    let (name, rate) = (&point.name, rate.rate_per_s);
    let problem = format!("{rate} per second for {seconds} s (--rates, --seconds) are more than {most} invocations");
    Err(UsageError(format!("point {name}: {problem}")))
}

/// Reads a folder in Azure 2019 form.
fn read(folder: &Path) -> Result<Workload, UsageError> {
    let place = folder.display();
    if !folder.is_dir() {
        return Err(UsageError(format!("--trace {place}: expected a folder in Azure 2019 form, found a file")));
    }
    azure2019::read(folder, &azure2019::ReadOptions::default()).map_err(|error| {
        let problem = format!("--trace: {:#}", anyhow::Error::new(error));
        UsageError(if OF_LOADGEN.iter().any(|option| problem.contains(option)) {
            format!(
                "{problem} (`loadgen synth --trace {place}` has these options, and writes a trace that repro takes)"
            )
        } else {
            problem
        })
    })
}

/// The minutes of a trace are there, and a sample of them is possible.
fn check_workload(mut workload: Workload, load: &Trace, seed: u64) -> Result<(), UsageError> {
    let refused = |error: TraceError| UsageError(error.to_string());
    workload.cut(load.start_minute, load.minutes).map_err(refused)?;
    if workload.total() == 0 {
        let Trace { minutes, start_minute, .. } = load;
        let problem = format!("nothing is invoked in the {minutes} minutes of the trace from minute {start_minute} on");
        return Err(UsageError(format!("--start-minute and --minutes: {problem}")));
    }
    let Some(functions) = load.functions else { return Ok(()) };
    let schedule = ScheduleOptions { seed, max_run: load.max_run, minute: load.minute, ..ScheduleOptions::default() };
    let options = SampleOptions { functions: functions as usize, max_cores: load.max_cores, seed, schedule };
    check_sample(&workload, &options).map_err(refused)
}

/// A synthetic trace is made as long and large as asked for, and sampled only where cores bound it.
fn check_synthetic(load: &Trace, seed: u64) -> Result<(), UsageError> {
    let Trace { minutes, start_minute, functions, .. } = *load;
    if minutes > MAX_MINUTES {
        return Err(UsageError(format!(
            "--minutes: expected 1 to {MAX_MINUTES} of a synthetic trace, found {minutes}"
        )));
    }
    let latest = MAX_MINUTES - minutes;
    if start_minute > latest {
        return Err(UsageError(format!(
            "--start-minute: expected 0 to {latest} for {minutes} minutes of a synthetic trace, found {start_minute}"
        )));
    }
    let refused = |error: TraceError| UsageError(error.to_string());
    let preset = Shape::preset(&load.synthetic).map_err(refused)?;
    let shape = Shape { minutes: start_minute + minutes, ..preset };
    if load.max_cores.is_none() {
        let functions = functions.map_or(shape.functions, |functions| functions as usize);
        return Shape { functions, ..shape }.check().map_err(refused);
    }
    check_workload(synthetic::generate(&shape, seed).map_err(refused)?, load, seed)
}
