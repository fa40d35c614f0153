//! Whether a repetition may be used: the load generator's rule checked again from the rows, and what else must hold.

use record::{ImpossibleRows, LoadSummary, Outcome, RowCounts, Spread, Validity};

/// Least bound of lag's p99.
const LAG_FLOOR_NS: u64 = 1_000_000;
/// Lag's p99 may be this share of the median latency, if that is more.
const LAG_SHARE: u64 = 50;
/// Least share of the measured schedule that must have been sent.
const SENT_SHARE: f64 = 0.995;
/// Share of the machine's cores above which the load generator is flagged.
const CROWDED_SHARE: f64 = 0.7;

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
        let busy = self.busy_cores().filter(|busy| self.cores > 0 && *busy > CROWDED_SHARE * f64::from(self.cores))?;
        Some(format!("the load generator kept {busy:.1} of {} cores busy", self.cores))
    }
}

pub(crate) fn validity(
    (counts, impossible): (&RowCounts, &ImpossibleRows),
    generator: &Generator<'_>,
    latency_ns: Option<&Spread>,
    lag_ns: Option<&Spread>,
) -> Validity {
    let median_ns = latency_ns.map_or(0, |latency| latency.p50.unsigned_abs());
    let lag_bound_ns = LAG_FLOOR_NS.max(median_ns / LAG_SHARE);
    let sent_share = (counts.measured > 0).then(|| counts.sent as f64 / counts.measured as f64);
    let mut reasons = Vec::new();
    if counts.measured == 0 {
        reasons.push("no measured row is on record".to_owned());
    }
    let ok = counts.outcomes.get(Outcome::Ok.name()).copied().unwrap_or(0);
    if counts.measured > 0 && ok == 0 {
        reasons.push("no measured invocation succeeded".to_owned());
    }
    reasons.extend(impossible.reason());
    if let Some(lag) = lag_ns.filter(|lag| lag.p99.unsigned_abs() > lag_bound_ns) {
        let (found, bound) = (lag.p99 as f64 / 1e6, lag_bound_ns as f64 / 1e6);
        reasons.push(format!("lag p99 is {found:.2} ms, above its bound of {bound:.2} ms"));
    }
    if let Some(share) = sent_share.filter(|share| *share < SENT_SHARE) {
        reasons.push(format!("{:.2} % of the measured schedule was sent, below 99.5 %", share * 100.0));
    }
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
    let valid = match generator.load {
        _ if !reasons.is_empty() => Some(false),
        None => None,
        Some(_) => Some(true),
    };
    if generator.load.is_none() {
        reasons.push("there is no loadgen.json: whether every scheduled row is on record cannot be told".to_owned());
    }
    Validity {
        valid,
        reasons,
        lag_bound_ns,
        sent_share,
        machine_floor_p99_ns: generator.load.map(|load| load.machine_floor_p99_ns),
        generator_cores: generator.busy_cores(),
        interrupted,
    }
}
