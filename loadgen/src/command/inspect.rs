//! `loadgen inspect`: what is in a trace or schedule, before anything is sent.

use clap::Args;
use serde::Serialize;
use terminal::{Exit, FormatOption, Table, columns, print_result};
use trace::{Due, Schedule, Summary};

use crate::{command::OUTPUT, http::request::position, machine::clock::NANOS_PER_SECOND, source::SourceArgs};

/// Arguments of `loadgen inspect`.
#[derive(Args, Debug, Serialize)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Number of the most invoked functions to list
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = OUTPUT)]
    top: usize,
    #[command(flatten, next_help_heading = OUTPUT)]
    #[serde(flatten)]
    output: FormatOption,
}

/// The content of a schedule in figures.
#[derive(Debug, Serialize)]
struct Inspection {
    functions: usize,
    active: usize,
    invocations: usize,
    span_s: u64,
    /// Least, median and greatest number of invocations in a minute.
    per_minute: [u64; 3],
    /// Execution over the span.
    cores: f64,
    /// At the percentiles of [`SHARES`].
    run_us: [u64; SHARES.len()],
    /// At the percentiles of [`SHARES`].
    memory_mib: [u32; SHARES.len()],
    top: Vec<Top>,
    problems: Vec<String>,
    /// Figures of the trace, if the schedule was drawn from one.
    trace: Option<Summary>,
}

/// One of the most invoked functions.
#[derive(Debug, Serialize)]
struct Top {
    name: String,
    invocations: u64,
    mean_run_us: u64,
    memory_mib: u32,
}

/// The percentiles shown.
const SHARES: [f64; 6] = [0.01, 0.25, 0.5, 0.75, 0.99, 1.0];

/// Looks into the source.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<Exit> {
    let loaded = args.source.load()?;
    let summary = loaded.workload.map(|workload| workload.summary(&args.source.options()));
    let inspection = inspect(&loaded.schedule, args.top, summary);
    print_result(args.output.format, &inspection, table)?;
    Ok(Exit::Done)
}

fn inspect(schedule: &Schedule, top: usize, trace: Option<Summary>) -> Inspection {
    let invocations = &schedule.invocations;
    Inspection {
        functions: schedule.functions.len(),
        active: schedule.functions.iter().filter(|function| function.invocations > 0).count(),
        invocations: invocations.len(),
        span_s: schedule.span_ns / NANOS_PER_SECOND,
        per_minute: per_minute(schedule),
        cores: schedule.cores(),
        run_us: percentiles(invocations, |due| due.run_us),
        memory_mib: percentiles(invocations, |due| due.memory_mib),
        top: most_invoked(schedule, top),
        problems: schedule.notes.clone(),
        trace,
    }
}

fn per_minute(schedule: &Schedule) -> [u64; 3] {
    let minute_of = |ns: u64| usize::try_from(ns / (60 * NANOS_PER_SECOND)).unwrap_or(usize::MAX);
    let mut counts = vec![0; minute_of(schedule.span_ns.saturating_sub(1)) + 1];
    let last = counts.len() - 1;
    for due in &schedule.invocations {
        counts[minute_of(due.due_ns).min(last)] += 1;
    }
    counts.sort_unstable();
    [0.0, 0.5, 1.0].map(|q| stats::quantile(&counts, q).unwrap_or(0))
}

fn percentiles<T: Copy + Ord + Default>(invocations: &[Due], of: impl Fn(&Due) -> T) -> [T; SHARES.len()] {
    let mut values: Vec<T> = invocations.iter().map(of).collect();
    values.sort_unstable();
    SHARES.map(|q| stats::quantile(&values, q).unwrap_or_default())
}

fn most_invoked(schedule: &Schedule, top: usize) -> Vec<Top> {
    let mut run_us = vec![0_u64; schedule.functions.len()];
    for due in &schedule.invocations {
        run_us[position(due)] = run_us[position(due)].saturating_add(due.run_us);
    }
    let mut functions: Vec<Top> = schedule
        .functions
        .iter()
        .zip(run_us)
        .map(|(function, run_us)| Top {
            name: function.name.clone(),
            invocations: function.invocations,
            mean_run_us: run_us.saturating_add(function.invocations / 2).checked_div(function.invocations).unwrap_or(0),
            memory_mib: function.memory_mib,
        })
        .collect();
    functions.sort_by_key(|function| std::cmp::Reverse(function.invocations));
    functions.truncate(top);
    functions
}

fn table(inspection: &Inspection) -> String {
    let mut figures = Table::new(["figure", "value"]);
    figures.row(["functions (active)", &format!("{} ({})", inspection.functions, inspection.active)]);
    figures.row(["invocations", &inspection.invocations.to_string()]);
    figures.row(["span", &format!("{} s", inspection.span_s)]);
    let [least, median, greatest] = inspection.per_minute;
    figures.row(["per minute (min, median, max)", &format!("{least}, {median}, {greatest}")]);
    figures.row(["execution", &format!("{:.2} cores", inspection.cores)]);
    let run = inspection.run_us.map(|us| format!("{}.{:03}", us / 1000, us % 1000)).join(", ");
    figures.row(["run time, ms (p1, p25, p50, p75, p99, max)", &run]);
    let memory = inspection.memory_mib.map(|mib| mib.to_string()).join(", ");
    figures.row(["memory, MiB (p1, p25, p50, p75, p99, max)", &memory]);
    let mut top = Table::new(["function", "invocations", "mean run time, ms", "memory, MiB"]).align_right(1..4);
    for function in &inspection.top {
        let run = format!("{}.{:03}", function.mean_run_us / 1000, function.mean_run_us % 1000);
        top.row([&function.name, &function.invocations.to_string(), &run, &function.memory_mib.to_string()]);
    }
    let trace = inspection.trace.as_ref().map(|summary| format!("{}\n", summary_table(summary))).unwrap_or_default();
    let problems: String = inspection.problems.iter().map(|problem| format!("{problem}\n")).collect();
    format!("{}\n{trace}{}{problems}", figures.text(columns()), top.text(columns()))
}

/// The figures of a trace as a table.
pub(crate) fn summary_table(summary: &Summary) -> String {
    let mut table = Table::new(["trace", "value"]);
    let mut row = |name: &str, value: String| {
        table.row([name, &value]);
    };
    row("functions (active)", format!("{} ({})", summary.functions, summary.active));
    row("invocations in minutes", format!("{} in {}", summary.invocations, summary.minutes));
    row("invocations per second", format!("{:.2}", summary.per_second));
    row("busiest minute", format!("{} invocations, {:.2} cores", summary.busiest_minute, summary.busiest_cores));
    row("execution, on average over seeds", format!("{:.2} cores", summary.cores));
    let stated = summary.cores_by_average.map_or_else(|| "not stated".to_owned(), |cores| format!("{cores:.2} cores"));
    row("execution by the stated averages", stated);
    row("memory, one sandbox of each", format!("{:.0} MiB", summary.memory_mib));
    let shares = summary.share_hourly_minutely_secondly.map(|share| format!("{:.0} %", share * 100.0)).join(", ");
    row("at most one per hour, minute, second", shares);
    let triggers: Vec<String> = summary.triggers.iter().map(|(name, count)| format!("{name} {count}")).collect();
    row("triggers", triggers.join(", "));
    table.text(columns())
}
