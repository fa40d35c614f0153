//! Validity of a repetition of an open load: the one rule that the load generator, the analysis and `repro verify`
//! apply to the rows. A slow system makes no repetition invalid; a load generator that sends or reads late does.

use crate::quantile;

/// Least bound of lag's p99, in nanoseconds: what a kernel timer keeps on a machine that has other work too.
const LAG_FLOOR_NS: u64 = 1_000_000;
/// Lag's p99 may be the median latency over this, if that is more: 2 % of it.
const LATENCY_PER_LAG: u64 = 50;
/// A row is very late whose lag exceeds so many bounds.
const VERY_LATE_BOUNDS: u64 = 10;
/// Of so many sent rows one may be very late, and one row always: a stop that delays more changes what it falls into,
/// although a p99 does not see a stop shorter than 1 % of the run.
const ROWS_PER_VERY_LATE: u64 = 1_000;
/// No lag may exceed so many bounds: that is twice the median latency, or 100 ms where this is short. Such a row measures
/// the load generator, and a slowdown of a function that is invoked once would be that row.
const LARGEST_BOUNDS: u64 = 100;
/// Of 1,000 measured rows, so many must have been sent.
const SENT_PER_MILLE: u64 = 995;
/// Share of the cores that it may use above which a load generator is suspect itself.
const CROWDED_SHARE: f64 = 0.7;

/// A part of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An invocation succeeded.
    Success,
    /// The measured rows were sent.
    Sent,
    /// Lag's p99 kept its bound.
    Lag,
    /// The load generator did not stop.
    Stops,
    /// Responses were read when they had arrived.
    Reading,
}

impl Rule {
    /// The rule in words, as a statement that must hold.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Success => "an invocation succeeded",
            Self::Sent => "at least 99.5 % were sent",
            Self::Lag => "lag p99 within max(1 ms, 2 % of median latency)",
            Self::Stops => "the load generator did not stop",
            Self::Reading => "responses were read in time",
        }
    }
}

/// Result of one part of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleResult {
    /// The part that was checked.
    pub rule: Rule,
    /// `None` if there is nothing to check it by.
    pub holds: Option<bool>,
    /// The numbers, as a clause that can be quoted alone.
    pub detail: String,
}

/// Distribution of a delay, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// Greatest.
    pub max_ns: u64,
}

/// Result of the rule for one repetition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punctuality {
    /// The bound of lag's p99, in nanoseconds.
    pub bound_ns: u64,
    /// Lag of the measured rows; `None` if none was sent.
    pub lag: Option<Lateness>,
    /// Median and 99th percentile latency of successful measured rows, in nanoseconds.
    pub latency_ns: Option<[u64; 2]>,
    /// Each part of the rule.
    pub results: Vec<RuleResult>,
}

impl Punctuality {
    /// Every part of the rule that does not hold, in words.
    pub fn broken(&self) -> impl Iterator<Item = &str> {
        self.results.iter().filter(|one| one.holds == Some(false)).map(|one| one.detail.as_str())
    }
}

/// A measured row, as far as the rule is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Sent minus due, in nanoseconds; `None` when it was not sent.
    pub lag_ns: Option<u64>,
    /// Done minus due, in nanoseconds.
    pub latency_ns: Option<u64>,
    /// True for outcome `ok`.
    pub is_ok: bool,
}

/// Measured rows, as they pass by.
#[derive(Clone, Debug, Default)]
pub struct Sending {
    measured: u64,
    ok: u64,
    lags_ns: Vec<u64>,
    ends_ns: Vec<u64>,
    latencies_ns: Vec<u64>,
}

impl Sending {
    /// Nothing yet, with room for so many rows.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        let room = || Vec::with_capacity(rows);
        Self { measured: 0, ok: 0, lags_ns: room(), ends_ns: room(), latencies_ns: room() }
    }

    /// Adds a measured row.
    pub fn observe(&mut self, row: Sent) {
        self.measured += 1;
        self.ok += u64::from(row.is_ok);
        self.lags_ns.extend(row.lag_ns);
        self.ends_ns.extend(row.latency_ns);
        self.latencies_ns.extend(row.latency_ns.filter(|_| row.is_ok));
    }

    /// Applies the rule; `reading` is how late the threads woke that read responses, where that is known.
    #[must_use]
    pub fn evaluate(&mut self, reading: Option<Lateness>) -> Punctuality {
        for values in [&mut self.lags_ns, &mut self.ends_ns, &mut self.latencies_ns] {
            values.sort_unstable();
        }
        let bound_ns = self.bound_ns();
        let at = |q| quantile(&self.lags_ns, q);
        let lag = at(0.5).zip(at(0.99)).zip(at(1.0));
        let lag = lag.map(|((p50_ns, p99_ns), max_ns)| Lateness { p50_ns, p99_ns, max_ns });
        let latency = |q| quantile(&self.latencies_ns, q);
        let latency_ns = latency(0.5).zip(latency(0.99)).map(|(p50, p99)| [p50, p99]);
        let results = vec![
            self.success(),
            self.sent(),
            lag_rule(lag, bound_ns),
            self.stops(bound_ns),
            reading_rule(reading, bound_ns),
        ];
        Punctuality { bound_ns, lag, latency_ns, results }
    }

    /// The bound is that of the lower of two medians, of successful rows and of all that ended: a few slow successes among
    /// many quick refusals must not widen it, nor many time-outs among quick successes.
    fn bound_ns(&self) -> u64 {
        let medians = [&self.ends_ns, &self.latencies_ns].map(|values| quantile(values, 0.5));
        LAG_FLOOR_NS.max(medians.into_iter().flatten().min().unwrap_or(0) / LATENCY_PER_LAG)
    }

    fn success(&self) -> RuleResult {
        let (holds, detail) = match (self.ok, self.measured) {
            (_, 0) => (false, "no measured row is on record".to_owned()),
            (0, _) => (false, "no measured invocation succeeded".to_owned()),
            (ok, measured) => (true, format!("{ok} of {measured} measured rows succeeded")),
        };
        RuleResult { rule: Rule::Success, holds: Some(holds), detail }
    }

    fn sent(&self) -> RuleResult {
        let (sent, measured) = (self.lags_ns.len() as u64, self.measured);
        let holds = sent.saturating_mul(1_000) >= measured.saturating_mul(SENT_PER_MILLE);
        let share = sent as f64 / measured.max(1) as f64 * 100.0;
        let below = if holds { "" } else { ", below 99.5 %" };
        let detail = format!("{share:.2} % of {measured} measured rows were sent{below}");
        RuleResult { rule: Rule::Sent, holds: (measured > 0).then_some(holds), detail }
    }

    fn stops(&self, bound_ns: u64) -> RuleResult {
        let rule = Rule::Stops;
        let Some(largest_ns) = self.lags_ns.last().copied() else { return nothing(rule, "no measured row was sent") };
        let (very_ns, most_ns) = (bound_ns.saturating_mul(VERY_LATE_BOUNDS), bound_ns.saturating_mul(LARGEST_BOUNDS));
        let sent = self.lags_ns.len() as u64;
        let very_late = sent - self.lags_ns.partition_point(|lag| *lag <= very_ns) as u64;
        let is_stopped = very_late > 1.max(sent / ROWS_PER_VERY_LATE);
        let detail = if largest_ns > most_ns {
            format!("the largest lag is {}, above 100 times the bound of {}", ms(largest_ns), ms(bound_ns))
        } else {
            let allowed = if is_stopped { ", more than 0.1 %" } else { "" };
            format!("{very_late} of {sent} rows were sent more than {} late, ten times the bound{allowed}", ms(very_ns))
        };
        RuleResult { rule, holds: Some(largest_ns <= most_ns && !is_stopped), detail }
    }
}

fn lag_rule(lag: Option<Lateness>, bound_ns: u64) -> RuleResult {
    let Some(lag) = lag else { return nothing(Rule::Lag, "no measured row was sent") };
    within(Rule::Lag, "lag p99", lag.p99_ns, bound_ns)
}

/// A reading thread that wakes late reads late, and the time that a response waits in its socket counts as the system's
/// latency.
fn reading_rule(reading: Option<Lateness>, bound_ns: u64) -> RuleResult {
    let Some(late) = reading else { return nothing(Rule::Reading, "the load generator does not say") };
    let p99 = within(Rule::Reading, "the p99 by which reading threads woke late", late.p99_ns, bound_ns);
    if p99.holds == Some(false) {
        return p99;
    }
    let most_ns = bound_ns.saturating_mul(LARGEST_BOUNDS);
    let largest = within(Rule::Reading, "the most by which a reading thread woke late", late.max_ns, most_ns);
    if largest.holds == Some(false) { largest } else { p99 }
}

fn within(rule: Rule, what: &str, found_ns: u64, bound_ns: u64) -> RuleResult {
    let holds = found_ns <= bound_ns;
    let word = if holds { "within" } else { "above" };
    RuleResult {
        rule,
        holds: Some(holds),
        detail: format!("{what} is {}, {word} its bound of {}", ms(found_ns), ms(bound_ns)),
    }
}

fn nothing(rule: Rule, why: &str) -> RuleResult {
    RuleResult { rule, holds: None, detail: why.to_owned() }
}

fn ms(ns: u64) -> String {
    format!("{:.2} ms", ns as f64 / 1e6)
}

/// The note on a load generator that kept most of its cores busy; `None` at or below 70 % of them.
#[must_use]
pub fn crowded(busy_cores: f64, cores: f64) -> Option<String> {
    let is_crowded = cores > 0.0 && busy_cores > CROWDED_SHARE * cores;
    is_crowded.then(|| {
        format!("the load generator kept {busy_cores:.1} of {cores} cores busy, more than 70 %: it may have slowed the system or itself")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ok(lag_ns: u64, latency_ns: u64) -> Sent {
        Sent { lag_ns: Some(lag_ns), latency_ns: Some(latency_ns), is_ok: true }
    }

    /// The rules broken by rows with these lags and a latency of 20 ms.
    fn of_lags(lags_ns: impl IntoIterator<Item = u64>) -> Vec<Rule> {
        broken(lags_ns.into_iter().map(|lag_ns| ok(lag_ns, 20 * MS)), None)
    }

    fn broken(rows: impl IntoIterator<Item = Sent>, reading: Option<Lateness>) -> Vec<Rule> {
        let mut sending = Sending::default();
        rows.into_iter().for_each(|row| sending.observe(row));
        let found = sending.evaluate(reading);
        found.results.iter().filter(|one| one.holds == Some(false)).map(|one| one.rule).collect()
    }

    /// So many rows 0.1 ms late, then others.
    fn after(punctual: usize, others: &[u64]) -> Vec<u64> {
        [vec![MS / 10; punctual], others.to_vec()].concat()
    }

    #[test]
    fn a_run_on_every_bound_is_valid() {
        assert_eq!(of_lags(after(990, &[&[MS; 9][..], &[100 * MS]].concat())), [], "one row may be 100 bounds late");
        assert_eq!(of_lags(after(9_990, &[11 * MS; 10])), [], "one in 1,000 may be very late");
        let unsent = Sent { lag_ns: None, latency_ns: None, is_ok: false };
        assert_eq!(broken([ok(MS, MS); 995].into_iter().chain([unsent; 5]), None), []);
    }

    #[test]
    fn a_late_generator_is_invalid() {
        assert_eq!(of_lags(after(98, &[MS + 1; 2])), [Rule::Lag]);
        let unsent = Sent { lag_ns: None, latency_ns: None, is_ok: false };
        assert_eq!(broken([ok(MS, MS); 994].into_iter().chain([unsent; 6]), None), [Rule::Sent]);
    }

    #[test]
    fn a_stop_shorter_than_one_percent_of_the_run_is_found() {
        assert_eq!(of_lags(after(9_989, &[11 * MS; 11])), [Rule::Stops], "0.11 % more than ten bounds late");
        assert_eq!(of_lags(after(100_000, &[100 * MS + 1])), [Rule::Stops], "one row more than 100 bounds late");
    }

    #[test]
    fn a_slow_system_allows_two_percent_of_its_latency() {
        assert_eq!(broken([ok(20 * MS, 1_000 * MS); 3], None), []);
        assert_eq!(broken([ok(20 * MS + 1, 1_000 * MS); 3], None), [Rule::Lag]);
    }

    #[test]
    fn the_bound_rests_on_successes_and_on_all_that_ended() {
        let failed = |latency_ms| Sent { lag_ns: Some(2 * MS), latency_ns: Some(latency_ms * MS), is_ok: false };
        let slow = [ok(2 * MS, 1_000 * MS); 2];
        assert_eq!(broken(slow, None), [], "2 ms late is less than 2 % of a second");
        assert_eq!(broken(slow.into_iter().chain([failed(1); 8]), None), [Rule::Lag], "most are refused within 1 ms");
        let quick = [ok(2 * MS, 20 * MS); 2];
        assert_eq!(broken(quick.into_iter().chain([failed(1_000); 8]), None), [Rule::Lag], "most time out");
        assert_eq!(broken([failed(1_000); 8], None), [Rule::Success]);
        assert_eq!(broken([], None), [Rule::Success], "nothing measured is no measurement");
    }

    #[test]
    fn who_reads_late_is_invalid() {
        let late = |p99_ms: u64, max_ms: u64| Some(Lateness { p50_ns: 0, p99_ns: p99_ms * MS, max_ns: max_ms * MS });
        assert_eq!(broken([ok(0, MS)], late(1, 100)), []);
        assert_eq!(broken([ok(0, MS)], late(2, 2)), [Rule::Reading]);
        assert_eq!(broken([ok(0, MS)], late(1, 101)), [Rule::Reading]);
    }

    #[test]
    fn a_generator_that_takes_most_of_its_cores_is_noted() {
        assert_eq!(crowded(1.4, 2.0), None);
        assert!(crowded(1.5, 2.0).is_some_and(|said| said.contains("1.5 of 2 cores")));
        assert_eq!(crowded(1.0, 0.0), None);
    }
}
