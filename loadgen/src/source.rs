//! The source of a schedule: reads or generates what the options name.

mod options;

use std::path::Path;

use trace::{
    Arrivals, ExactTrace, SampleOptions, SampleReport, Schedule, ScheduleOptions, TraceError, Workload,
    formats::{self, ReadOptions, Trace, TraceKind},
    rate::{self, RateArrivals, RateOptions},
    sample,
    synthetic::{self, Shape},
};

pub(crate) use options::SourceArgs;
use options::WindowArgs;
use terminal::UsageError;

/// The synthetic trace used without another source.
pub(crate) const DEFAULT_PRESET: &str = "azure-sample";

/// The option that helps where everything is warm-up.
const WARMUP_HINT: &str = "--warmup has to end before the last invocation is due";

/// The content of a source.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The schedule, with notes for readers of the results.
    pub(crate) schedule: Schedule,
    /// The trace it was drawn from, if it was drawn.
    pub(crate) workload: Option<Workload>,
}

impl Loaded {
    /// The problem of a schedule of which nothing would be measured.
    pub(crate) fn all_warmup(&self) -> Option<String> {
        let count = self.schedule.invocations.len();
        let is_all = count > 0 && !self.schedule.has_measured();
        is_all.then(|| format!("all {count} invocations are warm-up, so that nothing would be measured: {WARMUP_HINT}"))
    }
}

impl SourceArgs {
    /// Reads or makes the schedule.
    ///
    /// # Errors
    /// [`UsageError`] with file, row and column, or the option at fault.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        self.try_load().map_err(UsageError::of)
    }

    /// Reads or makes a schedule that is to be sent.
    ///
    /// # Errors
    /// As [`SourceArgs::load`]; [`UsageError`] when there is nothing to send, or nothing of it would be measured.
    pub(crate) fn load_to_send(&self) -> anyhow::Result<Loaded> {
        let loaded = self.load()?;
        let schedule = &loaded.schedule;
        if schedule.invocations.is_empty() {
            return Err(UsageError::of(anyhow::anyhow!("there is nothing to send: the schedule has no invocations")));
        }
        match loaded.all_warmup() {
            Some(problem) => Err(UsageError::of(anyhow::anyhow!(problem))),
            None => Ok(loaded),
        }
    }

    /// Reads or makes the trace, cut and sampled as the options say, with notes for readers.
    ///
    /// # Errors
    /// [`UsageError`] with file, row and column, or the option at fault.
    pub(crate) fn workload(&self) -> anyhow::Result<(Workload, Vec<String>)> {
        let counts = if self.schedule.is_some() || self.rate.is_some() { None } else { Some(self.read_or_generate()) };
        match counts.transpose().map_err(UsageError::of)? {
            Some(Trace::Counts(workload)) => self.try_written(workload).map_err(UsageError::of),
            Some(Trace::Calls(_)) | None => {
                Err(UsageError::of(anyhow::anyhow!("a trace with counts per minute is needed here")))
            }
        }
    }

    /// The trace to write: its files have run times but no bounds of them, so they are held before functions are chosen by
    /// what they cost.
    fn try_written(&self, workload: Workload) -> anyhow::Result<(Workload, Vec<String>)> {
        let (mut workload, notes) = self.window(workload)?;
        workload.clamp_run_times(&self.options())?;
        let (workload, mut notes) = self.sampled(workload, notes)?;
        notes.extend(self.to_repeat());
        Ok((workload, notes))
    }

    /// The options that a trace's files cannot hold: what is said of it is so when they are given again.
    fn to_repeat(&self) -> Option<String> {
        let default = ScheduleOptions::default();
        let minute = (self.draw.minute != default.minute).then_some(("--minute", self.draw.minute));
        let min_run = (self.draw.min_run < default.min_run).then_some(("--min-run", self.draw.min_run));
        let options: Vec<String> = [minute, min_run]
            .into_iter()
            .flatten()
            .map(|(option, value)| {
                format!("{option} {}", humantime::format_duration(value).to_string().replace(' ', ""))
            })
            .collect();
        let options = (!options.is_empty()).then(|| options.join(" "))?;
        Some(format!("this is so when it is replayed with {options}: the files of a trace do not hold that"))
    }

    /// The options for drawing invocations.
    pub(crate) fn options(&self) -> ScheduleOptions {
        ScheduleOptions {
            seed: self.draw.seed,
            arrivals: self.draw.arrivals.unwrap_or_default(),
            warmup: self.draw.warmup.unwrap_or_default(),
            min_run: self.draw.min_run,
            max_run: self.draw.max_run,
            minute: self.draw.minute,
            include_idle: self.draw.include_idle,
        }
    }

    fn try_load(&self) -> anyhow::Result<Loaded> {
        let plain = |schedule: Schedule| Loaded { schedule, workload: None };
        if let Some(path) = &self.schedule {
            let mut schedule = of_option("--schedule", Schedule::read(path))?;
            if let Some(warmup) = self.draw.warmup {
                schedule.warm_up(warmup);
            }
            return Ok(plain(schedule));
        }
        if let Some(rate_per_s) = self.rate {
            return Ok(plain(self.at_rate(rate_per_s)?));
        }
        let workload = match self.read_or_generate()? {
            Trace::Counts(workload) => workload,
            Trace::Calls(exact) => return Ok(plain(self.of_calls(exact)?)),
        };
        let (workload, notes) = self.window(workload)?;
        let (workload, mut notes) = self.sampled(workload, notes)?;
        let mut schedule = Schedule::from_workload(&workload, &self.options())?;
        notes.append(&mut schedule.notes);
        schedule.notes = notes;
        Ok(Loaded { schedule, workload: Some(workload) })
    }

    /// Reads the trace of `--trace`; without it, generates one.
    fn read_or_generate(&self) -> anyhow::Result<Trace> {
        let Some(path) = &self.trace else {
            return Ok(Trace::Counts(synthetic::generate(&self.shape()?, self.draw.seed)?));
        };
        let WindowArgs { missing, duplicates, day, .. } = self.window;
        let options = ReadOptions { missing, duplicates, day, ..Default::default() };
        let format = of_option("--trace", formats::resolve(&self.trace_format, path))?;
        of_option("--trace", format.read(path, &options))
    }

    /// The schedule of a trace whose calls have their own starts, cut to the window.
    fn of_calls(&self, mut exact: ExactTrace) -> Result<Schedule, TraceError> {
        let start_minute = self.window.start_minute;
        if self.window.minutes.is_some() || start_minute > 0 {
            let rest = exact.minutes().saturating_sub(start_minute);
            exact.cut(start_minute, self.window.minutes.unwrap_or(rest))?;
        }
        Schedule::from_exact(&exact, &self.options())
    }

    /// A trace with counts per minute, cut to the window.
    fn window(&self, mut workload: Workload) -> anyhow::Result<(Workload, Vec<String>)> {
        let WindowArgs { start_minute, minutes, .. } = self.window;
        if minutes.is_some() || start_minute > 0 {
            let rest = workload.minutes.saturating_sub(start_minute);
            workload.cut(start_minute, minutes.unwrap_or(rest))?;
        }
        let notes = workload.report.notes();
        Ok((workload, notes))
    }

    /// A sample of it, if the options want one.
    fn sampled(&self, workload: Workload, mut notes: Vec<String>) -> anyhow::Result<(Workload, Vec<String>)> {
        let WindowArgs { functions, max_cores, .. } = self.window;
        let sampled = functions.filter(|_| self.trace.is_some() || max_cores.is_some());
        let Some(functions) = sampled else { return Ok((workload, notes)) };
        let options = SampleOptions { functions, max_cores, seed: self.draw.seed, schedule: self.options() };
        let (sample, report) = sample(&workload, &options)?;
        notes.push(sampled_note(&report));
        Ok((sample, notes))
    }

    /// A synthetic trace is made as large as wanted, and sampled only to fit a number of cores.
    fn shape(&self) -> Result<Shape, TraceError> {
        let mut shape = Shape::preset(self.synthetic.as_deref().unwrap_or(DEFAULT_PRESET))?;
        if let Some(minutes) = self.window.minutes {
            shape.minutes = self.window.start_minute.saturating_add(minutes);
        }
        if let (Some(functions), None) = (self.window.functions, self.window.max_cores) {
            shape.functions = functions;
        }
        Ok(shape)
    }

    fn at_rate(&self, rate_per_s: f64) -> Result<Schedule, TraceError> {
        let arrivals = match self.draw.arrivals {
            None | Some(Arrivals::Equidistant) => RateArrivals::Equidistant,
            Some(Arrivals::Exponential) => RateArrivals::Poisson,
            Some(other) => {
                let problem = format!("expected equidistant or exponential at a constant rate, found {other}");
                return Err(TraceError::Option { option: "arrivals", problem });
            }
        };
        let constant = &self.constant;
        let options = RateOptions {
            rate_per_s,
            burst: constant.burst,
            duration: constant.duration.unwrap_or_default(),
            warmup: self.draw.warmup.unwrap_or_default(),
            cooldown: constant.cooldown,
            functions: constant.warm_functions,
            run_us: u64::try_from(constant.run.as_micros()).unwrap_or(u64::MAX),
            memory_mib: constant.memory,
            seed: self.draw.seed,
            arrivals,
            name_prefix: constant.name_prefix.clone(),
        };
        if constant.cold { rate::cold(&options) } else { rate::warm(&options) }
    }
}

fn sampled_note(report: &SampleReport) -> String {
    format!(
        "sample of {} functions ({} active), {:.2} of {:.2} cores; distance to the trace: counts per minute {:.3}, resources \
         {:.3} of their means; in decades: rates {:.3}, resources {:.3}{}",
        report.functions,
        report.active,
        report.cores,
        report.source_cores,
        report.count_distance,
        report.resource_distance,
        report.rate_decades,
        report.resource_decades,
        if report.nested { "" } else { "; --max-cores left no room for a nested sample of that many" }
    )
}

/// The value that was read; an error of opening a file names the option.
fn of_option<T>(option: &'static str, read: Result<T, TraceError>) -> anyhow::Result<T> {
    read.map_err(|error| match error {
        TraceError::File { .. } => anyhow::Error::new(error).context(option),
        other => other.into(),
    })
}

/// The kind of the trace at `path`. If its format is unknown, which the error of reading it explains, a file is
/// taken to have calls and anything else counts.
pub(crate) fn trace_kind(format: &str, path: &Path) -> TraceKind {
    match formats::resolve(format, path) {
        Ok(format) => format.kind(),
        Err(_) if path.is_file() => TraceKind::Calls,
        Err(_) => TraceKind::Counts,
    }
}
