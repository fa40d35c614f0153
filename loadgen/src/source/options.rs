//! The options that choose a source of invocations, shared by every subcommand that needs one.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;
use trace::{
    Arrivals, TraceError,
    formats::{AUTO, Duplicates, FORMATS, Missing, TraceFormat},
    synthetic::Shape,
};

use super::DEFAULT_PRESET;

/// The source of invocations. Without any of these, the default synthetic trace.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Source")]
pub(crate) struct SourceArgs {
    /// An Azure-2019-format directory (invocations.csv, durations.csv, memory.csv, or as downloaded), or an
    /// Azure-2021-format file, which has every call with its start
    #[arg(long, value_name = "PATH", group = "source")]
    pub(super) trace: Option<PathBuf>,
    /// The format of --trace; auto detects it
    #[arg(long, value_name = "FORMAT", default_value = AUTO, value_parser = PossibleValuesParser::new(format_names()))]
    pub(super) trace_format: String,
    /// A synthetic trace by preset; azure-sample without a name, and when there is no other source
    #[arg(long, value_name = "PRESET", group = "source", num_args = 0..=1, default_missing_value = DEFAULT_PRESET,
        value_parser = PossibleValuesParser::new(Shape::PRESETS))]
    pub(super) synthetic: Option<String>,
    /// A schedule written by `loadgen schedule`
    #[arg(long, value_name = "FILE", group = "source")]
    pub(super) schedule: Option<PathBuf>,
    /// A constant rate, in invocations per second
    #[arg(long, value_name = "PER_SECOND", group = "source", requires = "duration", allow_negative_numbers = true)]
    pub(super) rate: Option<f64>,
    #[command(flatten)]
    pub(super) window: WindowArgs,
    #[command(flatten)]
    pub(super) draw: DrawArgs,
    #[command(flatten)]
    pub(super) constant: RateArgs,
}

/// The part of a trace that is taken.
#[derive(Args, Clone, Debug, Serialize)]
pub(super) struct WindowArgs {
    /// First minute of the trace to take, counted from 0; of traces
    #[arg(long, value_name = "MINUTE", default_value_t = 0)]
    pub(super) start_minute: u32,
    /// Minutes of the trace to take [default: to its end]; of traces
    #[arg(long, value_name = "N")]
    pub(super) minutes: Option<u32>,
    /// Of traces with counts per minute: take a sample of so many functions that represents the trace; with the same seed
    /// and cores, smaller ones are parts of larger ones. A synthetic one is made with so many
    #[arg(long, value_name = "N")]
    pub(super) functions: Option<usize>,
    /// Of samples (--functions) of traces with counts per minute, one whose execution fits this many cores
    #[arg(long, value_name = "CORES", allow_negative_numbers = true)]
    pub(super) max_cores: Option<f64>,
    /// Treatment of a function that one of the trace's files lacks; of a --trace directory
    #[arg(long, value_name = "WHAT", default_value = "refuse",
        value_parser = choice::<Missing>(Missing::ALL.map(Missing::as_str)))]
    #[serde(serialize_with = "as_text")]
    pub(super) missing: Missing,
    /// Treatment of a function or application that a file has more than once: refuse the trace, take the first row,
    /// or merge the rows; of a --trace directory
    #[arg(long, value_name = "WHAT", default_value = "refuse",
        value_parser = choice::<Duplicates>(Duplicates::ALL.map(Duplicates::as_str)))]
    #[serde(serialize_with = "as_text")]
    pub(super) duplicates: Duplicates,
    /// The day to read of those downloaded into a --trace directory [default: the only one]
    #[arg(long, value_name = "N")]
    pub(super) day: Option<u32>,
}

/// Options for drawing invocations from a trace.
#[derive(Args, Clone, Debug, Serialize)]
pub(super) struct DrawArgs {
    /// Seed of everything random: of traces with counts per minute that are made, sampled or drawn from, and of --rate with
    /// exponential arrivals
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Arrival model within a minute, of traces with counts per minute; with --rate, equidistant or exponential
    /// [default: exponential; equidistant with --rate]
    #[arg(long, value_name = "MODEL", value_parser = choice::<Arrivals>(Arrivals::ALL.map(Arrivals::as_str)))]
    pub(super) arrivals: Option<Arrivals>,
    /// The first part of the schedule, sent and recorded but not measured [default: 0s; of a --schedule, as it says]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) warmup: Option<Duration>,
    /// Shorter run times become this, also in a trace that is written; of traces
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) min_run: Duration,
    /// Longer run times become this, also in a trace that is written [default: no bound]; of traces
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) max_run: Option<Duration>,
    /// Duration of a minute of a trace; shorter compresses the gaps, not the run times. A trace that is written does not
    /// have it
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) minute: Duration,
    /// Also list the functions that are never invoked; of traces with counts per minute
    #[arg(long)]
    pub(super) include_idle: bool,
}

/// A constant rate.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Source: constant rate")]
pub(super) struct RateArgs {
    /// Duration of the load; with --rate
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) duration: Option<Duration>,
    /// Invocations that are due at the same moment; the moments are as far apart as --rate makes them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) burst: u32,
    /// Every invocation a cold start: as many functions, called in turn, as the cool-down needs at this --rate
    #[arg(long, conflicts_with = "warm_functions")]
    pub(super) cold: bool,
    /// Least time between two invocations of one function, longer than the system keeps an idle sandbox; with --rate and
    /// --cold
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) cooldown: Option<Duration>,
    /// Functions called in turn; with --rate
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) warm_functions: u32,
    /// Execution time of an invocation; with --rate
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    #[serde(with = "humantime_serde")]
    pub(super) run: Duration,
    /// Memory of an invocation, in MiB; with --rate
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    pub(super) memory: u32,
    /// Prefix of the names of functions; with --rate
    #[arg(long, value_name = "TEXT", default_value = "rate")]
    pub(super) name_prefix: String,
}

fn format_names() -> impl Iterator<Item = &'static str> {
    [AUTO].into_iter().chain(FORMATS.map(TraceFormat::name))
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
