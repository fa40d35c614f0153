//! The schedule: every invocation of a run, with the nanosecond it is due, made before the run starts.
//! The only thing the sender follows, so the load is known exactly whatever the system did.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Arrivals, ExactTrace, FunctionProfile, TraceError, Workload,
    arrivals::Minute,
    quantity::{nanoseconds, whole, whole_u32},
    stream::Stream,
};

/// Most invocations a schedule holds: 32 bytes each, so 1.6 GB, and seven hours at 2,000 per second.
pub const MAX_SCHEDULED: u64 = 50_000_000;

/// Longest execution that an invocation can ask for, in microseconds: 30 days, [`crate::RunTime::LIMIT_MS`].
pub(crate) const MAX_RUN_US: u64 = 30 * 86_400_000_000;
/// Most memory that an invocation can ask for, in MiB: 1 TiB, [`crate::Memory::LIMIT_MIB`].
pub const MAX_MEMORY_MIB: u32 = 1_048_576;

/// The part of a schedule that an invocation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Sent, recorded, and excluded from statistics.
    Warmup,
    /// The part that is measured.
    Measured,
}

impl Phase {
    /// Its name in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Measured => "measured",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Warmup, Self::Measured].into_iter().find(|phase| phase.as_str() == text)
    }
}

/// Options for drawing a schedule from a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleOptions {
    /// Of every random draw.
    pub seed: u64,
    /// Arrival model within a minute.
    pub arrivals: Arrivals,
    /// Invocations due before this, from the schedule's start, are warm-up. It is part of the window, not put before
    /// it.
    pub warmup: Duration,
    /// Shorter run times become this; the Azure trace says 0 ms for many.
    pub min_run: Duration,
    /// Longer run times become this.
    pub max_run: Option<Duration>,
    /// Duration of a trace minute; less than 60 s compresses the gaps between invocations, not the run times.
    pub minute: Duration,
    /// Also list the functions that are never invoked, to be registered and left alone.
    pub include_idle: bool,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            arrivals: Arrivals::Exponential,
            warmup: Duration::ZERO,
            min_run: Duration::from_millis(1),
            max_run: None,
            minute: Duration::from_secs(60),
            include_idle: false,
        }
    }
}

/// One function of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledFunction {
    /// The name it is registered under.
    pub name: String,
    /// The most memory one of its invocations can ask for, in MiB, at least 1: what a sandbox has to reserve.
    pub memory_mib: u32,
    /// Number of its invocations in the schedule.
    pub invocations: u64,
}

/// One invocation to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Due time, in nanoseconds from the run's start instant.
    pub due_ns: u64,
    /// Index into [`Schedule::functions`].
    pub function: u32,
    /// Execution time to ask for, in microseconds.
    pub run_us: u64,
    /// Memory to ask for, in MiB.
    pub memory_mib: u32,
    /// Warm-up or measured.
    pub phase: Phase,
}

/// Every invocation of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Functions by name, in the order of their names.
    pub functions: Vec<ScheduledFunction>,
    /// Invocations in the order they are due; those due together in the order of their rows in an exact trace, else
    /// of their functions.
    pub invocations: Vec<Due>,
    /// The seed it was made from.
    pub seed: u64,
    /// Length of the schedule, in nanoseconds: the window, which is more than the last due time.
    pub span_ns: u64,
    /// The options it was made with (`arrivals`, `min_run_us`, `max_run_us`, `minute_ns`, `warmup_ns`, …); written with it. A
    /// caller may add entries, whose keys must not be those of the file form ([`Schedule::write`]).
    pub settings: BTreeMap<String, String>,
    /// Notes for readers of results on how it was made, such as how many values were held within bounds; written
    /// with it, so that a replay of the file says the same.
    pub notes: Vec<String>,
}

impl Schedule {
    /// Draws every invocation of `workload`: the same counts, instants as `options` say, run time and memory by inverse
    /// transform. Each function draws from its own streams, by its identity in the trace and the seed.
    ///
    /// # Errors
    /// [`TraceError::Option`] when an option is outside its range, [`TraceError::TooMany`] beyond [`MAX_SCHEDULED`].
    pub fn from_workload(workload: &Workload, options: &ScheduleOptions) -> Result<Self, TraceError> {
        let span_ns = span_ns(workload.minutes, options)?;
        let total = workload.total();
        check_total(total)?;
        let mut profiles: Vec<&FunctionProfile> = workload.functions.iter().collect();
        profiles.retain(|profile| options.include_idle || profile.counts.iter().any(|&count| count > 0));
        profiles.sort_by(|left, right| left.name.cmp(&right.name));
        let mut schedule = Self::empty(options, span_ns, "trace");
        schedule.invocations.reserve_exact(usize::try_from(total).unwrap_or_default());
        let mut bounds = Bounds::new(options);
        for (index, profile) in (0_u32..).zip(profiles) {
            let before = schedule.invocations.len();
            draw_function(profile, index, (options, &mut bounds), &mut schedule.invocations);
            schedule.functions.push(ScheduledFunction {
                name: profile.name.clone(),
                memory_mib: whole_u32(profile.memory.max_mib().ceil()).max(1),
                invocations: (schedule.invocations.len() - before) as u64,
            });
        }
        schedule.invocations.sort_by_key(|due| (due.due_ns, due.function));
        schedule.notes = bounds.notes(schedule.invocations.len());
        Ok(schedule)
    }

    /// Replays a trace of exact starts and durations: starts as recorded, run times held within the options' bounds;
    /// the seed and the arrivals model play no part. [`ScheduleOptions::minute`] compresses the gaps as elsewhere.
    ///
    /// # Errors
    /// [`TraceError::Option`] when an option is outside its range, [`TraceError::TooMany`] beyond [`MAX_SCHEDULED`].
    pub fn from_exact(exact: &ExactTrace, options: &ScheduleOptions) -> Result<Self, TraceError> {
        check_total(exact.calls.len() as u64)?;
        check_options(options)?;
        let factor = options.minute.as_secs_f64() / 60.0;
        let scaled = |time_ns: u64| whole(crate::quantity::real(time_ns) * factor);
        let mut schedule = Self::empty(options, scaled(exact.span_ns), "exact");
        schedule.settings.insert("arrivals".to_owned(), "exact".to_owned());
        let mut order: Vec<usize> = (0..exact.functions.len()).collect();
        order.sort_by(|&left, &right| exact.functions[left].cmp(&exact.functions[right]));
        let mut position = vec![0_u32; order.len()];
        for (index, &function) in (0_u32..).zip(&order) {
            position[function] = index;
            let name = exact.functions[function].clone();
            schedule.functions.push(ScheduledFunction { name, memory_mib: exact.memory_mib.max(1), invocations: 0 });
        }
        let mut bounds = Bounds::new(options);
        for call in &exact.calls {
            let function = position[call.function as usize];
            schedule.functions[function as usize].invocations += 1;
            let due_ns = scaled(call.start_ns);
            schedule.invocations.push(Due {
                due_ns,
                function,
                run_us: bounds.run_us(call.run_us),
                memory_mib: exact.memory_mib.max(1),
                phase: phase(due_ns, options.warmup),
            });
        }
        // Stable: calls of one instant keep the order of their rows.
        schedule.invocations.sort_by_key(|due| due.due_ns);
        schedule.notes = bounds.notes(schedule.invocations.len());
        Ok(schedule)
    }

    /// Returns true if it has invocations that are measured.
    #[must_use]
    pub fn has_measured(&self) -> bool {
        self.invocations.iter().any(|due| due.phase == Phase::Measured)
    }

    /// Makes what is due before `warmup` warm-up and the rest measured, whatever it was.
    pub fn warm_up(&mut self, warmup: Duration) {
        for due in &mut self.invocations {
            due.phase = phase(due.due_ns, warmup);
        }
        self.settings.insert("warmup_ns".to_owned(), nanoseconds(warmup).to_string());
    }

    /// Requested execution, in cores: the sum of run times over the schedule's span. What this very schedule costs,
    /// where
    /// [`crate::Summary::cores`] is what it costs on average over seeds.
    #[must_use]
    pub fn cores(&self) -> f64 {
        let run_us: u64 = self.invocations.iter().map(|due| due.run_us).fold(0, u64::saturating_add);
        if self.span_ns == 0 {
            0.0
        } else {
            crate::quantity::real(run_us) * 1000.0 / crate::quantity::real(self.span_ns)
        }
    }

    fn empty(options: &ScheduleOptions, span_ns: u64, source: &str) -> Self {
        let max_run_us = options.max_run.map(|bound| (nanoseconds(bound) / 1000).to_string());
        let settings = [
            ("source", source.to_owned()),
            ("arrivals", options.arrivals.to_string()),
            ("min_run_us", (nanoseconds(options.min_run) / 1000).to_string()),
            ("max_run_us", max_run_us.unwrap_or_else(|| "none".to_owned())),
            ("minute_ns", nanoseconds(options.minute).to_string()),
            ("warmup_ns", nanoseconds(options.warmup).to_string()),
        ];
        Self {
            functions: Vec::new(),
            invocations: Vec::new(),
            seed: options.seed,
            span_ns,
            settings: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            notes: Vec::new(),
        }
    }
}

/// Refuses more invocations than can be held.
pub(crate) fn check_total(total: u64) -> Result<(), TraceError> {
    if total > MAX_SCHEDULED {
        return Err(TraceError::TooMany { what: "the schedule".to_owned(), found: total, limit: MAX_SCHEDULED });
    }
    Ok(())
}

/// Warm-up before `warmup`, measured from it on.
pub(crate) fn phase(due_ns: u64, warmup: Duration) -> Phase {
    if u128::from(due_ns) < warmup.as_nanos() { Phase::Warmup } else { Phase::Measured }
}

/// Refuses an execution that no function is asked for.
pub(crate) fn check_run(option: &'static str, run: Duration) -> Result<(), TraceError> {
    if run > Duration::from_micros(MAX_RUN_US) {
        return Err(TraceError::Option { option, problem: format!("expected at most 30 days, found {run:?}") });
    }
    Ok(())
}

/// Refuses bounds and minutes that make no schedule.
pub(crate) fn check_options(options: &ScheduleOptions) -> Result<(), TraceError> {
    if options.minute.is_zero() {
        return Err(TraceError::Option { option: "minute", problem: "expected more than 0".to_owned() });
    }
    for (option, run) in [("min-run", Some(options.min_run)), ("max-run", options.max_run)] {
        check_run(option, run.unwrap_or_default())?;
    }
    if let Some(max_run) = options.max_run.filter(|&max_run| max_run < options.min_run) {
        let problem = format!("expected at least the shortest run time {:?}, found {max_run:?}", options.min_run);
        return Err(TraceError::Option { option: "max-run", problem });
    }
    Ok(())
}

fn span_ns(minutes: u32, options: &ScheduleOptions) -> Result<u64, TraceError> {
    check_options(options)?;
    let span = u64::try_from(options.minute.as_nanos()).ok().and_then(|minute| minute.checked_mul(u64::from(minutes)));
    span.ok_or_else(|| TraceError::Option {
        option: "minute",
        problem: format!("{minutes} minutes of {:?} are more nanoseconds than 64 bits hold", options.minute),
    })
}

/// Holds what was drawn within the options' bounds, and counts what was not.
struct Bounds {
    min_us: u64,
    max_us: u64,
    raised: u64,
    lowered: u64,
    raised_memory: u64,
}

impl Bounds {
    fn new(options: &ScheduleOptions) -> Self {
        Self {
            min_us: nanoseconds(options.min_run) / 1000,
            max_us: options.max_run.map_or(u64::MAX, |bound| nanoseconds(bound) / 1000),
            raised: 0,
            lowered: 0,
            raised_memory: 0,
        }
    }

    fn run_us(&mut self, run_us: u64) -> u64 {
        self.raised += u64::from(run_us < self.min_us);
        self.lowered += u64::from(run_us > self.max_us);
        run_us.min(self.max_us).max(self.min_us)
    }

    fn memory_mib(&mut self, memory_mib: u32) -> u32 {
        self.raised_memory += u64::from(memory_mib == 0);
        memory_mib.max(1)
    }

    /// A note on how many values of `total` invocations were changed; `None` if none was.
    fn notes(&self, total: usize) -> Vec<String> {
        let texts = [
            (self.raised, "run times were shorter than the bound and were raised to it (--min-run)"),
            (self.lowered, "run times were longer than the bound and were lowered to it (--max-run)"),
            (self.raised_memory, "memory sizes were below half a MiB and were raised to 1 MiB"),
        ];
        let counted = texts.into_iter().filter(|(count, _)| *count > 0);
        counted.map(|(count, text)| format!("{count} of {total} {text}")).collect()
    }
}

fn draw_function(
    profile: &FunctionProfile,
    index: u32,
    (options, bounds): (&ScheduleOptions, &mut Bounds),
    invocations: &mut Vec<Due>,
) {
    let identity = [profile.owner.as_str(), profile.app.as_str(), profile.function.as_str()];
    let mut arrivals = Stream::new(options.seed, "arrivals", &identity);
    let mut run_times = Stream::new(options.seed, "run-time", &identity);
    let mut memories = Stream::new(options.seed, "memory", &identity);
    let minute_ns = nanoseconds(options.minute);
    let spread = Minute { arrivals: options.arrivals, phase: arrivals.unit(), length_ns: minute_ns };
    let mut instants_ns = Vec::new();
    for (minute, &count) in (0_u64..).zip(&profile.counts) {
        spread.draw(&mut arrivals, count, &mut instants_ns);
        for instant_ns in &instants_ns {
            let due_ns = minute * minute_ns + instant_ns;
            let run_us = whole(profile.run_time.at(run_times.unit()) * 1000.0);
            invocations.push(Due {
                due_ns,
                function: index,
                run_us: bounds.run_us(run_us),
                memory_mib: bounds.memory_mib(whole_u32(profile.memory.at(memories.unit()))),
                phase: phase(due_ns, options.warmup),
            });
        }
    }
}
