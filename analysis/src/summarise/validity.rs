//! Validity of a repetition: the load generator's rule, checked again from the rows, and further conditions.

use record::{LagSummary, LoadSummary, Outcome, RowCounts, Validity};
use stats::{Lateness, Rule, Sending, Sent, crowded};

use crate::rows::Rows;

/// The load generator's own account and the machine's cores.
pub(crate) struct Generator<'a> {
    pub(crate) load: Option<&'a LoadSummary>,
    pub(crate) cores: u32,
}

impl Generator<'_> {
    /// Cores it kept busy.
    fn busy_cores(&self) -> Option<f64> {
        self.load.filter(|load| load.wall_us > 0).map(|load| load.cpu_us as f64 / load.wall_us as f64)
    }

    /// A warning when it took most of the machine.
    pub(crate) fn crowded(&self) -> Option<String> {
        crowded(self.busy_cores()?, f64::from(self.cores))
    }
}

pub(crate) fn validity(rows: &Rows, counts: &RowCounts, generator: &Generator<'_>) -> Validity {
    let mut sending = Sending::with_capacity(rows.measured.len());
    for row in &rows.measured {
        let (lag_ns, latency_ns) = (row.lag_ns(), row.latency_ns());
        sending.observe(Sent { lag_ns, latency_ns, is_ok: row.outcome == Outcome::Ok });
    }
    let reading = generator.load.and_then(|load| load.reading);
    let lateness = |of: LagSummary| Lateness { p50_ns: of.p50_ns, p99_ns: of.p99_ns, max_ns: of.max_ns };
    let found = sending.evaluate(reading.map(lateness));
    let mut reasons: Vec<String> = found.broken().map(str::to_owned).collect();
    let succeeded = found.results.iter().all(|one| one.rule != Rule::Success || one.holds != Some(false));
    let late = if succeeded { reasons.len() } else { 0 };
    reasons.extend(rows.impossible.reason());
    if let Some(count) = counts.unaccounted.filter(|count| *count > 0) {
        reasons.push(format!("{count} scheduled rows are not on record"));
    }
    if counts.duplicated > 0 {
        reasons.push(format!("{} rows are on record more than once", counts.duplicated));
    }
    let interrupted = generator.load.is_some_and(|load| load.interrupted);
    if interrupted {
        reasons.push("the load was stopped before its end".to_owned());
    }
    if generator.load.is_some_and(|load| !load.valid) && reasons.is_empty() {
        reasons.push("the load generator calls its run invalid".to_owned());
    }
    let only_late = late > 0 && late == reasons.len();
    let valid = match generator.load {
        _ if !reasons.is_empty() => Some(false),
        None => None,
        Some(_) => Some(true),
    };
    if generator.load.is_none() {
        reasons.push("there is no loadgen.json: it is unknown if every scheduled row is recorded".to_owned());
    }
    Validity {
        valid,
        reasons,
        lag_bound_ns: found.bound_ns,
        reading_p99_ns: reading.map(|reading| reading.p99_ns),
        sent_share: (counts.measured > 0).then(|| counts.sent as f64 / counts.measured as f64),
        machine_floor_p99_ns: generator.load.map(|load| load.machine_floor_p99_ns),
        generator_cores: generator.busy_cores(),
        interrupted,
        only_late,
    }
}
