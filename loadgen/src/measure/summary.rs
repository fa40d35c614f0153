//! `loadgen.json` and the table a user sees: one run in figures.

use std::collections::BTreeMap;

use record::{LagSummary, LoadSummary, Outcome, SCHEMA_VERSION};
use stats::Lateness;
use terminal::{Table, columns};

use crate::{machine::usage::cores, measure::tally::Tally, replay::Replay};

/// Facts of a run besides its rows.
#[derive(Clone, Debug)]
pub(crate) struct RunFacts {
    /// SHA-256 of the schedule in its file form.
    pub(crate) schedule_sha256: String,
    /// CPU time the generator used, in microseconds.
    pub(crate) cpu_us: u64,
    /// Wall-clock time of the run, in microseconds.
    pub(crate) wall_us: u64,
    /// Scheduling granted to the pacing thread, and its delays.
    pub(crate) pacing: String,
    /// 99th percentile of the delay of a bare sleep on this machine, in nanoseconds.
    pub(crate) machine_floor_p99_ns: u64,
    /// The reason, if it was stopped before its end.
    pub(crate) interrupted: Option<Interruption>,
    /// Notes for readers of the summary.
    pub(crate) notes: Vec<String>,
}

/// The reason why a run did not reach its end.
#[derive(Clone, Debug)]
pub(crate) enum Interruption {
    /// The user stopped it.
    User,
    /// Its rows could not be written.
    Failure(String),
    /// It is under way. What is on disk says so until it has ended, and for good when it is killed.
    Unfinished,
}

impl Interruption {
    fn note(&self) -> String {
        match self {
            Self::User => "interrupted by the user".to_owned(),
            Self::Failure(cause) => format!("interrupted: {cause}"),
            Self::Unfinished => "interrupted: the load generator did not reach its end, rows may be missing".to_owned(),
        }
    }
}

/// Puts a run in figures and judges it.
pub(crate) fn summarise(replay: &Replay, tally: &mut Tally, facts: RunFacts) -> LoadSummary {
    let reading = replay.reading.summary();
    let lateness = |of: LagSummary| Lateness { p50_ns: of.p50_ns, p99_ns: of.p99_ns, max_ns: of.max_ns };
    let found = tally.sending.evaluate(reading.map(lateness));
    let [latency_p50_ns, latency_p99_ns] = found.latency_ns.unwrap_or_default();
    let lag = found.lag.unwrap_or_default();
    let broken = found.broken().map(str::to_owned).chain(tally.impossible.reason());
    let faults: Vec<String> = broken.map(|reason| format!("invalid: {reason}")).collect();
    let mut notes = facts.notes;
    // Of a run in which few fail, the rows say enough; a report would repeat these words for each of its points.
    if tally.failures >= tally.sent.saturating_sub(tally.failures).max(1) {
        notes.extend(tally.errors.notes());
    }
    notes.extend(facts.interrupted.as_ref().map(Interruption::note));
    let interrupted = facts.interrupted.is_some();
    let valid = faults.is_empty() && !interrupted;
    notes.extend(faults);
    let busy_cores = facts.cpu_us as f64 / facts.wall_us.max(1) as f64;
    notes.extend(stats::crowded(busy_cores, cores() as f64));
    LoadSummary {
        schema_version: SCHEMA_VERSION,
        started_unix_ns: replay.clock.origin_unix_ns(),
        schedule_sha256: facts.schedule_sha256,
        seed: replay.schedule.seed,
        scheduled: replay.schedule.invocations.len() as u64,
        sent: tally.sent,
        outcomes: tally.outcomes.clone(),
        cold: tally.cold,
        span_ns: replay.schedule.span_ns,
        lag: LagSummary { p50_ns: lag.p50_ns, p99_ns: lag.p99_ns, max_ns: lag.max_ns },
        reading,
        lag_bound_ns: found.bound_ns,
        latency_p50_ns,
        latency_p99_ns,
        cpu_us: facts.cpu_us,
        wall_us: facts.wall_us,
        pacing: facts.pacing,
        machine_floor_p99_ns: facts.machine_floor_p99_ns,
        valid,
        notes,
        interrupted,
    }
}

/// The summary as a table.
pub(crate) fn table(summary: &LoadSummary) -> String {
    let mut table = Table::new(["figure", "value"]);
    let mut line = |name: &str, value: String| table.row([name, &value]);
    line("scheduled", summary.scheduled.to_string());
    line("sent", summary.sent.to_string());
    line("outcomes", counts(&summary.outcomes));
    line("cold", share(summary.cold, summary.sent));
    line("latency p50 / p99", latency(summary));
    let LagSummary { p50_ns, p99_ns, max_ns } = summary.lag;
    line("lag p50 / p99 / max", format!("{} / {} / {}", time(p50_ns), time(p99_ns), time(max_ns)));
    line("lag bound (p99)", time(summary.lag_bound_ns));
    if let Some(LagSummary { p50_ns, p99_ns, max_ns }) = summary.reading {
        line("reading late p50 / p99 / max", format!("{} / {} / {}", time(p50_ns), time(p99_ns), time(max_ns)));
    }
    line("machine floor (p99)", time(summary.machine_floor_p99_ns));
    line("pacing", summary.pacing.clone());
    let cpu_ns = summary.cpu_us.saturating_mul(1000);
    let each = cpu_ns.checked_div(summary.sent).unwrap_or(0);
    line(
        "CPU",
        format!("{} in {} ({} per invocation)", time(cpu_ns), time(summary.wall_us.saturating_mul(1000)), time(each)),
    );
    line("valid", if summary.valid { "yes".to_owned() } else { "no".to_owned() });
    let notes: String = summary.notes.iter().map(|note| format!("{note}\n")).collect();
    format!("{}{notes}", table.text(columns()))
}

/// No latency is 0: where there is none, nothing that was measured succeeded.
fn latency(summary: &LoadSummary) -> String {
    match (summary.latency_p50_ns, summary.latency_p99_ns) {
        (_, 0) => "none".to_owned(),
        (p50_ns, p99_ns) => format!("{} / {}", time(p50_ns), time(p99_ns)),
    }
}

fn counts(outcomes: &BTreeMap<Outcome, u64>) -> String {
    let counts: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn share(part: u64, whole: u64) -> String {
    let tenths = part.saturating_mul(1000).saturating_add(whole / 2).checked_div(whole).unwrap_or(0);
    format!("{part} ({}.{} %)", tenths / 10, tenths % 10)
}

/// A time in the unit that a reader takes in at a glance, from nanoseconds.
pub(crate) fn time(ns: u64) -> String {
    // Rounded before the unit is chosen, so that none is shown a thousand times.
    let rounded = |to: u64| ns.saturating_add(to / 2) / to;
    match [rounded(100), rounded(1_000), rounded(1_000_000)] {
        _ if ns == 0 => "0".to_owned(),
        [tenths @ (..10_000), ..] => format!("{}.{} µs", tenths / 10, tenths % 10),
        [_, us @ (..1_000_000), _] => format!("{}.{:03} ms", us / 1000, us % 1000),
        [.., ms] => format!("{}.{:03} s", ms / 1000, ms % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_a_fitting_unit() {
        let shown = [0, 900, 45_600, 1_234_400, 2_005_000_000].map(time);
        assert_eq!(shown, ["0", "0.9 µs", "45.6 µs", "1.234 ms", "2.005 s"]);
        assert_eq!((share(1, 8), share(0, 0)), ("1 (12.5 %)".into(), "0 (0.0 %)".into()));
    }

    #[test]
    fn what_is_shown_is_rounded() {
        let shown = [45_650, 999_960, 1_234_500, 999_999_600, 1_999_500_000].map(time);
        assert_eq!(shown, ["45.7 µs", "1.000 ms", "1.235 ms", "1.000 s", "2.000 s"]);
        assert_eq!((share(28, 60), share(59, 60)), ("28 (46.7 %)".into(), "59 (98.3 %)".into()));
    }
}
