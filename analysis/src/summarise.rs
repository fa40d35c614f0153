//! One repetition's statistics, from its files. Each part of the summary has its file here.

mod anatomy;
mod cold;
mod counts;
mod creations;
pub(crate) mod rate_test;
mod slowdowns;
mod usage;
mod validity;

use std::{path::Path, time::Duration};

use record::{
    Action, ColdStart, LoadSummary, Outcome, PointDir, PointSummary, ProcessUsage, RecordError, SampledRepetition,
    Spread, read_json, read_table,
};

use crate::{
    ReadError,
    curves::Curves,
    plan::Plan,
    rows::{Row, Rows},
    spread::{signed, spread},
};

pub(crate) use slowdowns::{Slowdowns, group, recorded_definition, recorded_policy};

/// A repetition's statistics and what its figures are drawn from.
#[derive(Debug)]
pub(crate) struct PointResult {
    pub(crate) summary: PointSummary,
    pub(crate) curves: Curves,
}

/// Inputs of a repetition's summary other than its own files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) plan: Plan<'a>,
    /// Latency of a penalised failure at every point, if one was given.
    pub(crate) timeout: Option<Duration>,
    /// Cores of the machine, to compute the load generator's share.
    pub(crate) cores: u32,
}

/// Computes everything about one repetition.
pub(crate) fn point(dir: &PointDir, context: Context<'_>) -> Result<PointResult, ReadError> {
    let Context { plan, timeout, cores } = context;
    let timeout = plan.timeout(&dir.point, timeout);
    let rows = Rows::read(&dir.invocations())?;
    let load: Option<LoadSummary> = optional(&dir.loadgen(), read_json)?;
    let coldstarts: Option<Vec<ColdStart>> = optional(&dir.coldstarts(), read_table)?;
    let processes: Option<Vec<ProcessUsage>> = optional(&dir.processes(), read_table)?;
    let actions: Option<Vec<Action>> = optional(&dir.actions(), read_table)?;
    let window = counts::window(&rows, load.as_ref());
    let counts = counts::counts(&rows, load.as_ref());
    let slowdowns = Slowdowns::of(&rows, timeout.ns);
    let latency_ns = spread_of(&rows, |row| row.latency_ns().filter(|_| row.outcome == Outcome::Ok).map(signed));
    let lag_ns = spread_of(&rows, |row| row.lag_ns().map(signed));
    let mut notes = missing(&rows, coldstarts.is_none(), processes.is_none());
    notes.extend(slowdowns.without_execution_note());
    let generator = validity::Generator { load: load.as_ref(), cores };
    let validity = validity::validity(&rows, &counts, &generator);
    notes.extend(load.iter().flat_map(|load| load.notes.iter().map(|note| format!("load generator: {note}"))));
    notes.extend(generator.crowded());
    let rates = window.map(|window| counts::rates(&rows, window));
    let sampled: Option<SampledRepetition> = optional(&dir.facts(), read_json)?;
    let sampled = sampled.and_then(|sampled| sampled.window);
    let usage = processes.as_deref().unwrap_or_default();
    let rate_test = if plan.is_at_rate() {
        let done = rate_test::Done::of(&rows, load.as_ref(), coldstarts.as_deref(), sampled);
        let measured = rate_test::Measured {
            counts: &counts,
            rates,
            validity: &validity,
            timeout_ns: timeout.ns,
            in_bursts: plan.is_in_bursts(),
            sampled,
        };
        Some(rate_test::rate_test(&rows, &measured, done))
    } else {
        None
    };
    let summary = PointSummary {
        system: dir.system.clone(),
        point: dir.point.clone(),
        repetition: dir.repetition,
        rates,
        latency_ns,
        scheduling_ns: spread_of(&rows, Row::scheduling_ns),
        lag_ns,
        slowdowns: slowdowns.summaries(),
        timeout_ns: timeout.ns,
        timeout_from: timeout.from,
        cold: cold::summary(&rows, coldstarts.as_deref(), plan.delay_ns(&dir.point)),
        creations: coldstarts.as_deref().map(|creations| creations::summary(creations, window)),
        anatomy: actions.map(|actions| anatomy::summary(&rows, &actions)),
        processes: usage::processes(usage, counts.sent),
        machine: sampled.and_then(|sampled| usage::machine(&sampled, usage, cores)),
        counts,
        rate_test,
        validity,
        notes,
    };
    Ok(PointResult { curves: Curves::of(&rows, &slowdowns), summary })
}

/// The content of a file; `None` if it does not exist.
fn optional<T>(path: &Path, read: impl Fn(&Path) -> Result<T, RecordError>) -> Result<Option<T>, RecordError> {
    if path.exists() { read(path).map(Some) } else { Ok(None) }
}

fn spread_of(rows: &Rows, value: impl Fn(&Row) -> Option<i64>) -> Option<Spread> {
    spread(rows.measured.iter().filter_map(value).collect())
}

/// Notes on missing measurements.
fn missing(rows: &Rows, coldstarts: bool, processes: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if rows.measured.is_empty() {
        notes.push("no measured row is on record".to_owned());
    }
    if coldstarts {
        notes.push("phases of cold starts not measured: there is no coldstarts.csv".to_owned());
    }
    if processes {
        notes.push("CPU per invocation not measured: there is no processes.csv".to_owned());
    }
    let unreported = rows.measured.iter().filter(|row| row.outcome == Outcome::Ok && row.executed_ns.is_none()).count();
    if unreported > 0 {
        notes.push(format!("{unreported} ok rows report no execution time and are left out of what needs it"));
    }
    notes
}
