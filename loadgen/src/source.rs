//! Where a schedule comes from: the options every subcommand shares, and what they make.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;
use trace::{
    Arrivals, SampleOptions, SampleReport, Schedule, ScheduleOptions, TraceError, Workload, azure2019, azure2021,
    rate::{self, RateArrivals, RateOptions},
    sample,
    synthetic::{self, Shape},
};

use crate::exit::UsageError;

/// Where invocations come from. Without any of these, the default synthetic trace.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Source")]
pub(crate) struct SourceArgs {
    /// An Azure-2019-format directory (invocations.csv, durations.csv, memory.csv, or as downloaded), or an
    /// Azure-2021-format file, which has every call with its start
    #[arg(long, value_name = "PATH", group = "source")]
    trace: Option<PathBuf>,
    /// A synthetic trace by preset; azure-sample without a name, and when there is no other source
    #[arg(long, value_name = "PRESET", group = "source", num_args = 0..=1, default_missing_value = DEFAULT_PRESET,
        value_parser = PossibleValuesParser::new(Shape::PRESETS))]
    synthetic: Option<String>,
    /// A schedule written by `loadgen schedule`
    #[arg(long, value_name = "FILE", group = "source")]
    schedule: Option<PathBuf>,
    /// A constant rate, in invocations per second
    #[arg(long, value_name = "PER_SECOND", group = "source", requires = "duration", allow_negative_numbers = true)]
    rate: Option<f64>,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    draw: DrawArgs,
    #[command(flatten)]
    constant: RateArgs,
}

/// Which part of a trace.
#[derive(Args, Clone, Debug, Serialize)]
struct WindowArgs {
    /// First minute of the trace to take, counted from 0; of traces
    #[arg(long, value_name = "MINUTE", default_value_t = 0)]
    start_minute: u32,
    /// Minutes of the trace to take [default: to its end]; of traces
    #[arg(long, value_name = "N")]
    minutes: Option<u32>,
    /// Of traces with counts per minute: take a sample of so many functions that represents the trace; with the same seed
    /// and cores, smaller ones are parts of larger ones. A synthetic one is made with so many
    #[arg(long, value_name = "N")]
    functions: Option<usize>,
    /// Of samples (--functions) of traces with counts per minute, one whose execution fits this many cores
    #[arg(long, value_name = "CORES", allow_negative_numbers = true)]
    max_cores: Option<f64>,
    /// What to do with a function that one of the trace's files lacks; of a --trace directory
    #[arg(long, value_name = "WHAT", default_value = "refuse",
        value_parser = choice::<azure2019::Missing>(azure2019::Missing::ALL.map(azure2019::Missing::as_str)))]
    #[serde(serialize_with = "as_text")]
    missing: azure2019::Missing,
    /// What to do with a function or application that a file has more than once: refuse the trace, take the first row,
    /// or merge the rows; of a --trace directory
    #[arg(long, value_name = "WHAT", default_value = "refuse",
        value_parser = choice::<azure2019::Duplicates>(azure2019::Duplicates::ALL.map(azure2019::Duplicates::as_str)))]
    #[serde(serialize_with = "as_text")]
    duplicates: azure2019::Duplicates,
    /// Which of the days downloaded into a --trace directory [default: the only one]
    #[arg(long, value_name = "N")]
    day: Option<u32>,
}

/// How invocations are drawn from a trace.
#[derive(Args, Clone, Debug, Serialize)]
struct DrawArgs {
    /// Seed of everything random: of traces with counts per minute that are made, sampled or drawn from, and of --rate with
    /// exponential arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How invocations fall within their minute, of traces with counts per minute; with --rate, equidistant or exponential
    /// [default: exponential; equidistant with --rate]
    #[arg(long, value_name = "MODEL", value_parser = choice::<Arrivals>(Arrivals::ALL.map(Arrivals::as_str)))]
    arrivals: Option<Arrivals>,
    /// The first part of the schedule, sent and recorded but not measured [default: 0s; of a --schedule, as it says]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    warmup: Option<Duration>,
    /// Shorter run times become this, also in a trace that is written; of traces
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    min_run: Duration,
    /// Longer run times become this, also in a trace that is written [default: no bound]; of traces
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    max_run: Option<Duration>,
    /// How long a minute of a trace takes; shorter compresses the gaps, not the run times. A trace that is written does not
    /// have it
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    minute: Duration,
    /// Also list the functions that are never invoked; of traces with counts per minute
    #[arg(long)]
    include_idle: bool,
}

/// A constant rate.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Source: constant rate")]
struct RateArgs {
    /// How long; with --rate
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    duration: Option<Duration>,
    /// Invocations that are due at the same moment; the moments are as far apart as --rate makes them
    #[arg(long, value_name = "N", default_value_t = 1)]
    burst: u32,
    /// Every invocation a cold start: as many functions, called in turn, as the cool-down needs at this --rate
    #[arg(long, conflicts_with = "warm_functions")]
    cold: bool,
    /// Least time between two invocations of one function, longer than the system keeps an idle sandbox; with --rate and
    /// --cold
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    cooldown: Option<Duration>,
    /// Functions called in turn; with --rate
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_functions: u32,
    /// Execution time of an invocation; with --rate
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    run: Duration,
    /// Memory of an invocation, in MiB; with --rate
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    memory: u32,
    /// What names of functions begin with; with --rate
    #[arg(long, value_name = "TEXT", default_value = "rate")]
    name_prefix: String,
}

/// The synthetic trace used when nothing else is asked for.
pub(crate) const DEFAULT_PRESET: &str = "azure-sample";

/// The option that helps where everything is warm-up.
const WARMUP_HINT: &str = "--warmup has to end before the last invocation is due";

/// What a source says.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What to send and when, with what a reader of the results should know of it.
    pub(crate) schedule: Schedule,
    /// The trace it was drawn from, if it was drawn.
    pub(crate) workload: Option<Workload>,
}

impl Loaded {
    /// What is wrong with a schedule of which nothing would be measured.
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

    /// Reads or makes the trace, cut and sampled as asked, with what a reader should know of it.
    ///
    /// # Errors
    /// [`UsageError`] with file, row and column, or the option at fault.
    pub(crate) fn workload(&self) -> anyhow::Result<(Workload, Vec<String>)> {
        let exact = self.trace.as_deref().is_some_and(std::path::Path::is_file);
        if self.schedule.is_some() || self.rate.is_some() || exact {
            return Err(UsageError::of(anyhow::anyhow!("a trace with counts per minute is needed here")));
        }
        self.try_written().map_err(UsageError::of)
    }

    /// The trace to write: its files have run times but no bounds of them, so they are held before functions are chosen by
    /// what they cost.
    fn try_written(&self) -> anyhow::Result<(Workload, Vec<String>)> {
        let (mut workload, notes) = self.window()?;
        workload.hold_run_times(&self.options())?;
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

    /// How invocations are drawn.
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
        if let Some(path) = self.trace.as_deref().filter(|path| path.is_file()) {
            let mut exact = of_option("--trace", azure2021::read(path))?;
            let start_minute = self.window.start_minute;
            if self.window.minutes.is_some() || start_minute > 0 {
                let rest = exact.minutes().saturating_sub(start_minute);
                exact.cut(start_minute, self.window.minutes.unwrap_or(rest))?;
            }
            return Ok(plain(Schedule::from_exact(&exact, &self.options())?));
        }
        let (workload, notes) = self.window()?;
        let (workload, mut notes) = self.sampled(workload, notes)?;
        let mut schedule = Schedule::from_workload(&workload, &self.options())?;
        notes.append(&mut schedule.notes);
        schedule.notes = notes;
        Ok(Loaded { schedule, workload: Some(workload) })
    }

    /// The trace, cut as asked.
    fn window(&self) -> anyhow::Result<(Workload, Vec<String>)> {
        let WindowArgs { start_minute, minutes, missing, duplicates, day, .. } = self.window;
        let mut workload = match &self.trace {
            Some(directory) => {
                let options = azure2019::ReadOptions { missing, duplicates, day, ..Default::default() };
                of_option("--trace", azure2019::read(directory, &options))?
            }
            None => synthetic::generate(&self.shape()?, self.draw.seed)?,
        };
        if minutes.is_some() || start_minute > 0 {
            let rest = workload.minutes.saturating_sub(start_minute);
            workload.cut(start_minute, minutes.unwrap_or(rest))?;
        }
        let notes = workload.report.notes();
        Ok((workload, notes))
    }

    /// As much of it as was asked for.
    fn sampled(&self, workload: Workload, mut notes: Vec<String>) -> anyhow::Result<(Workload, Vec<String>)> {
        let WindowArgs { functions, max_cores, .. } = self.window;
        let sampled = functions.filter(|_| self.trace.is_some() || max_cores.is_some());
        let Some(functions) = sampled else { return Ok((workload, notes)) };
        let options = SampleOptions { functions, max_cores, seed: self.draw.seed, schedule: self.options() };
        let (sample, report) = sample(&workload, &options)?;
        notes.push(sampled_note(&report));
        Ok((sample, notes))
    }

    /// A synthetic trace is made as large as asked for, and sampled only to fit a number of cores.
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

/// What was read; a file that could not be opened is said to be that of the option.
fn of_option<T>(option: &'static str, read: Result<T, TraceError>) -> anyhow::Result<T> {
    read.map_err(|error| match error {
        TraceError::File { .. } => anyhow::Error::new(error).context(option),
        other => other.into(),
    })
}

/// A choice among names: a wrong one is refused with the right ones, and the help lists them.
fn choice<T>(names: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = TraceError> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse())
}

fn as_text<S: serde::Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}
