//! Schedules at a given rate, for throughput and cold-start measurements: warm, over a few functions called round-robin, or
//! cold, over so many functions that none is called again before it has cooled down.

use std::{collections::VecDeque, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Due, Schedule, ScheduledFunction, TraceError,
    names::is_label,
    quantity::{nanoseconds, real, whole},
    schedule::{MAX_MEMORY_MIB, check_run, check_total, phase},
    stream::Stream,
};

/// Distribution of the gaps between calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateArrivals {
    /// At equal gaps.
    #[default]
    Equidistant,
    /// As a Poisson process.
    Poisson,
}

impl RateArrivals {
    /// Every model.
    pub const ALL: [RateArrivals; 2] = [Self::Equidistant, Self::Poisson];

    /// Its name in options and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equidistant => "equidistant",
            Self::Poisson => "poisson",
        }
    }
}

impl fmt::Display for RateArrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for RateArrivals {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let found = Self::ALL.into_iter().find(|arrivals| arrivals.as_str() == text);
        let problem = || format!("expected equidistant or poisson, found {text:?}");
        found.ok_or_else(|| TraceError::Option { option: "arrivals", problem: problem() })
    }
}

/// A schedule at a given rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateOptions {
    /// Calls per second, more than 0.
    pub rate_per_s: f64,
    /// Calls that are due at the same moment, at least 1. The moments are so far apart that the rate is kept.
    pub burst: u32,
    /// Length of the schedule.
    pub duration: Duration,
    /// Calls due before this are warm-up; part of the duration.
    pub warmup: Duration,
    /// Cold only: the least time between two calls of one function, start to start. It has to exceed the run time and
    /// the time the system keeps an idle sandbox.
    pub cooldown: Option<Duration>,
    /// Warm only: number of functions, called round-robin.
    pub functions: u32,
    /// Execution time to ask for, in microseconds.
    pub run_us: u64,
    /// Memory to ask for, in MiB.
    pub memory_mib: u32,
    /// Of the arrivals, when they are random.
    pub seed: u64,
    /// Distribution of the gaps between calls.
    pub arrivals: RateArrivals,
    /// Functions are named `PREFIX-00000`, … so that two schedules on one system need not share functions.
    pub name_prefix: String,
}

impl Default for RateOptions {
    fn default() -> Self {
        Self {
            rate_per_s: 100.0,
            burst: 1,
            duration: Duration::from_secs(10),
            warmup: Duration::ZERO,
            cooldown: None,
            functions: 1,
            run_us: 1000,
            memory_mib: 128,
            seed: 1,
            arrivals: RateArrivals::Equidistant,
            name_prefix: "rate".to_owned(),
        }
    }
}

/// Most functions of one schedule: more than any published trace has, and few enough to register.
const MAX_FUNCTIONS: u64 = 1_000_000;
/// Longest prefix of a name; the rest of a DNS label's 63 characters is for the number.
const MAX_PREFIX: usize = 48;
/// Rates and cool-downs are given in decimal, whose products miss whole numbers by a few parts in 10^16; this much more
/// than a whole number of functions is that number.
const ROUNDING: f64 = 1e-9;

/// `rate_per_s` calls per second over [`RateOptions::functions`] functions, called round-robin.
///
/// # Errors
/// [`TraceError::Option`] when an option is outside its range, [`TraceError::TooMany`] beyond [`crate::MAX_SCHEDULED`].
pub fn warm(options: &RateOptions) -> Result<Schedule, TraceError> {
    check(options)?;
    let functions = u64::from(options.functions);
    if functions == 0 || functions > MAX_FUNCTIONS {
        let problem = format!("expected 1 to {MAX_FUNCTIONS}, found {functions}");
        return Err(TraceError::Option { option: "warm-functions", problem });
    }
    let calls = due_times_ns(options).zip((0..options.functions).cycle()).collect();
    finish(options, "rate-warm", options.functions, calls)
}

/// `rate_per_s` calls per second, none of a function within [`RateOptions::cooldown`] of its last. At equal gaps that
/// takes ⌈rate × cool-down⌉ functions called in turn, rounded up to whole bursts; as a Poisson process a few more, since the next in turn is
/// replaced by a new one when it has not cooled down. A schedule shorter than the cool-down has one function for each
/// call.
///
/// # Errors
/// [`TraceError::Option`] when an option is outside its range or the cool-down does not exceed the run time,
/// [`TraceError::TooMany`] beyond [`crate::MAX_SCHEDULED`].
pub fn cold(options: &RateOptions) -> Result<Schedule, TraceError> {
    check(options)?;
    let refused = |problem| TraceError::Option { option: "cooldown", problem };
    let cooldown =
        options.cooldown.ok_or_else(|| refused("expected one for a cold schedule, found none".to_owned()))?;
    if cooldown <= Duration::from_micros(options.run_us) {
        let run = Duration::from_micros(options.run_us);
        let problem = format!("expected more than the run time (--run) of {run:?}, found {cooldown:?}");
        return Err(refused(problem));
    }
    let product = options.rate_per_s * cooldown.as_secs_f64();
    // Whole bursts: a function may be called in each of them once.
    let burst = u64::from(options.burst);
    let rotation = whole((product * (1.0 - ROUNDING) / real(burst)).ceil()).max(1).saturating_mul(burst);
    if rotation > MAX_FUNCTIONS {
        let problem = format!("{} per second need {rotation} functions, at most {MAX_FUNCTIONS}", options.rate_per_s);
        return Err(refused(problem));
    }
    let cooldown_ns = nanoseconds(cooldown);
    let (functions, calls) = match options.arrivals {
        RateArrivals::Equidistant => call_round_robin(options, rotation, cooldown_ns),
        RateArrivals::Poisson => called_when_cool(options, cooldown_ns),
    };
    let mut schedule = finish(options, "rate-cold", functions, calls)?;
    schedule.settings.insert("cooldown_ns".to_owned(), cooldown_ns.to_string());
    Ok(schedule)
}

/// Calls at equal gaps over exactly `in_turn` functions, or as many as there are calls.
fn call_round_robin(options: &RateOptions, rotation: u64, cooldown_ns: u64) -> (u32, Vec<(u64, u32)>) {
    let rotation = usize::try_from(rotation).expect("the bound on functions fits a length");
    let mut calls: Vec<(u64, u32)> = Vec::new();
    for due_ns in due_times_ns(options) {
        // Rounding to nanoseconds may bring two calls of a function one nanosecond too close.
        let last = calls.len().checked_sub(rotation).map(|position| calls[position]);
        let cool_ns = last.map_or(0, |(last_ns, _)| last_ns + cooldown_ns);
        let function = u32::try_from(calls.len() % rotation).expect("the bound on functions fits 32 bits");
        calls.push((due_ns.max(cool_ns), function));
    }
    (u32::try_from(rotation.min(calls.len())).expect("the bound on functions fits 32 bits"), calls)
}

/// Random calls, each of the function that has been idle the longest, or of a new one when even that is not cool.
fn called_when_cool(options: &RateOptions, cooldown_ns: u64) -> (u32, Vec<(u64, u32)>) {
    let mut idle: VecDeque<(u64, u32)> = VecDeque::new();
    let mut functions = 0;
    let calls = due_times_ns(options).map(|due_ns| {
        let cool = idle.pop_front_if(|(last_ns, _)| *last_ns + cooldown_ns <= due_ns);
        let function = cool.map_or(functions, |(_, function)| function);
        functions = functions.max(function + 1);
        idle.push_back((due_ns, function));
        (due_ns, function)
    });
    let calls = calls.collect();
    (functions, calls)
}

/// Due times of calls, in nanoseconds from 0 on, before the duration's end.
fn due_times_ns(options: &RateOptions) -> impl Iterator<Item = u64> {
    let end_ns = nanoseconds(options.duration);
    let gap_ns = 1e9 / options.rate_per_s;
    let mut stream = Stream::new(options.seed, "rate-arrivals", &[]);
    let mut passed = 0.0;
    let poisson = options.arrivals == RateArrivals::Poisson;
    let burst = u64::from(options.burst);
    let instants = (0_u64..).map(move |call| {
        if poisson {
            if call.is_multiple_of(burst) {
                passed += -(1.0 - stream.unit()).ln() * gap_ns * real(burst);
            }
            passed
        } else {
            real(call / burst * burst) * 1e9 / options.rate_per_s
        }
    });
    instants.map(|instant_ns| whole(instant_ns.floor())).take_while(move |&due_ns| due_ns < end_ns)
}

fn check(options: &RateOptions) -> Result<(), TraceError> {
    let refused = |option, problem| Err(TraceError::Option { option, problem });
    let rate_per_s = options.rate_per_s;
    if !rate_per_s.is_finite() || rate_per_s <= 0.0 {
        return refused("rate", format!("expected a rate above 0 per second, found {rate_per_s}"));
    }
    if options.burst == 0 {
        return refused("burst", "expected at least 1, found 0".to_owned());
    }
    if options.duration.is_zero() {
        return refused("duration", "expected more than 0".to_owned());
    }
    check_run("run", Duration::from_micros(options.run_us))?;
    if !(1..=MAX_MEMORY_MIB).contains(&options.memory_mib) {
        return refused("memory", format!("expected 1 to {MAX_MEMORY_MIB} MiB, found {}", options.memory_mib));
    }
    let prefix = options.name_prefix.as_str();
    // A number follows it.
    if prefix.len() > MAX_PREFIX || !is_label(&format!("{prefix}0")) || prefix.is_empty() {
        let problem = format!("expected 1 to {MAX_PREFIX} of a-z, 0-9 and -, not starting with -, found {prefix:?}");
        return refused("name-prefix", problem);
    }
    // A Poisson process may have somewhat more calls than its mean; a bound on memory need not be exact.
    check_total(whole(rate_per_s * options.duration.as_secs_f64()))
}

fn finish(options: &RateOptions, source: &str, functions: u32, calls: Vec<(u64, u32)>) -> Result<Schedule, TraceError> {
    check_total(calls.len() as u64)?;
    let width = functions.to_string().len().max(5);
    let named = |number: u32| ScheduledFunction {
        name: format!("{}-{number:0width$}", options.name_prefix),
        memory_mib: options.memory_mib,
        invocations: 0,
    };
    let mut functions: Vec<ScheduledFunction> = (0..functions).map(named).collect();
    let mut invocations = Vec::with_capacity(calls.len());
    for (due_ns, function) in calls {
        functions[function as usize].invocations += 1;
        let (run_us, memory_mib) = (options.run_us, options.memory_mib);
        invocations.push(Due { due_ns, function, run_us, memory_mib, phase: phase(due_ns, options.warmup) });
    }
    invocations.sort_by_key(|due| (due.due_ns, due.function));
    let settings = [
        ("source", source.to_owned()),
        ("arrivals", options.arrivals.as_str().to_owned()),
        ("rate_per_s", options.rate_per_s.to_string()),
        ("warmup_ns", nanoseconds(options.warmup).to_string()),
    ];
    let burst = (options.burst > 1).then(|| ("burst", options.burst.to_string()));
    let settings = settings.into_iter().chain(burst).map(|(key, value)| (key.to_owned(), value)).collect();
    let span_ns = invocations.last().map_or(0, |due| due.due_ns + 1).max(nanoseconds(options.duration));
    Ok(Schedule { functions, invocations, seed: options.seed, span_ns, settings, notes: Vec::new() })
}
