//! Accounting of invocations: each scheduled one is there exactly once, as the load generator counted it, and was sent
//! in time.

use std::collections::{BTreeMap, BTreeSet};

use record::{Finding, ImpossibleRows, Invariant, Invocation, LagSummary, LoadSummary, Outcome, Phase, Weight};
use stats::{Lateness, Rule, RuleResult, Sending, Sent};

use crate::{
    definition::settings::Settings,
    verify::{invariant::Findings, schedule::Schedule},
};

/// Share of failures from which on a rate is not sustained, whatever else.
const SATURATED_SHARE: f64 = 0.01;
/// Status of a response for a function that is not registered.
const UNKNOWN_FUNCTION: u16 = 404;

/// Counts while rows pass by.
#[derive(Debug)]
pub struct Accounting<'a> {
    schedule: &'a Schedule,
    registered: &'a BTreeSet<String>,
    seen: Vec<bool>,
    twice: u64,
    foreign: u64,
    unknown: u64,
    impossible: ImpossibleRows,
    sent: u64,
    outcomes: BTreeMap<Outcome, u64>,
    measured: u64,
    measured_failed: u64,
    /// Failed, and the load generator received no response of any kind.
    measured_unresponded: u64,
    succeeded_cold: u64,
    sending: Sending,
}

impl<'a> Accounting<'a> {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(schedule: &'a Schedule, registered: &'a BTreeSet<String>) -> Self {
        Self {
            schedule,
            registered,
            seen: vec![false; schedule.dues.len()],
            twice: 0,
            foreign: 0,
            unknown: 0,
            impossible: ImpossibleRows::default(),
            sent: 0,
            outcomes: BTreeMap::new(),
            measured: 0,
            measured_failed: 0,
            measured_unresponded: 0,
            succeeded_cold: 0,
            sending: Sending::default(),
        }
    }

    /// Counts a row.
    pub fn observe(&mut self, row: &Invocation) {
        let position = usize::try_from(row.index).unwrap_or(usize::MAX);
        match self.schedule.dues.get(position) {
            Some(due) if due.due_ns == row.scheduled_ns && self.schedule.name(*due) == row.function => {
                self.twice += u64::from(self.seen[position]);
                self.seen[position] = true;
            }
            _ => self.foreign += 1,
        }
        let unknown = !self.registered.contains(&row.function) || row.status == Some(UNKNOWN_FUNCTION);
        self.unknown += u64::from(unknown);
        let possible = !self.impossible.note(row);
        self.sent += u64::from(row.sent_ns.is_some());
        *self.outcomes.entry(row.outcome).or_default() += 1;
        if row.phase == Phase::Measured {
            self.measured += 1;
            self.measured_failed += u64::from(row.outcome != Outcome::Ok);
            self.measured_unresponded += u64::from(row.outcome != Outcome::Ok && row.status.is_none());
            let (lag_ns, latency_ns) = (row.lag_ns(), row.latency_ns().filter(|_| possible));
            self.sending.observe(Sent { lag_ns, latency_ns, is_ok: row.outcome == Outcome::Ok });
            if row.outcome == Outcome::Ok {
                self.succeeded_cold += u64::from(row.cold == Some(1));
            }
        }
    }

    /// Evaluates the counts against the invariants of every run.
    pub fn conclude(&mut self, load: Option<&LoadSummary>, to: &mut Findings) {
        let missing = self.seen.iter().filter(|seen| !**seen).count();
        let complete = missing == 0 && self.twice == 0 && self.foreign == 0;
        let scheduled = self.seen.len();
        let detail = format!(
            "{scheduled} scheduled, {missing} missing, {} twice, {} that were not scheduled",
            self.twice, self.foreign
        );
        to.validity("every scheduled row is there once", complete, detail);
        to.validity(
            "no row is impossible",
            self.impossible.count() == 0,
            self.impossible.reason().unwrap_or_else(|| "none".to_owned()),
        );
        to.validity("no unknown function", self.unknown == 0, format!("{} rows", self.unknown));
        match load {
            None => to.not_measured("outcomes as the load generator counted", "there is no loadgen.json"),
            Some(load) => {
                let counted = &self.outcomes;
                let said: BTreeMap<Outcome, u64> =
                    load.outcomes.iter().filter(|(_, count)| **count > 0).map(|(k, v)| (*k, *v)).collect();
                let equal = *counted == said && self.sent == load.sent;
                let detail = if equal { words(counted) } else { format!("{}; said: {}", words(counted), words(&said)) };
                to.validity("outcomes as the load generator counted", equal, detail);
            }
        }
        self.punctuality(load, to);
    }

    /// The rule of a valid run, from the rows themselves; only the load generator knows how late it read.
    fn punctuality(&mut self, load: Option<&LoadSummary>, to: &mut Findings) {
        let reading = load.and_then(|load| load.reading);
        let lateness = |of: LagSummary| Lateness { p50_ns: of.p50_ns, p99_ns: of.p99_ns, max_ns: of.max_ns };
        for RuleResult { rule, holds, detail } in self.sending.evaluate(reading.map(lateness)).results {
            let weight = if rule == Rule::Success { Weight::Validity } else { Weight::Lateness };
            to.add(rule.sentence(), weight, holds.map_or(Finding::NotMeasured, Finding::of), detail);
        }
    }

    /// Evaluates the counts against a definition's expectations. `overload` is the reason why the rate was surely failed, if
    /// it was.
    pub fn thresholds(&self, settings: &Settings, overload: Option<&str>, to: &mut Findings) {
        let expected = &settings.expect;
        let mut add = |rule, weight, bound: Option<f64>, (count, of): (u64, u64), at_most: bool| {
            let Some(bound) = bound else { return };
            let rows = if at_most { "measured" } else { "successful" };
            let share = count as f64 / of.max(1) as f64;
            let holds = if at_most { share <= bound } else { share >= bound };
            let outcome = if of == 0 { Finding::NotMeasured } else { Finding::of(holds) };
            let (percent, word) = (share * 100.0, if at_most { "at most" } else { "at least" });
            let detail = format!("{count} of {of} {rows} rows, {percent:.3} %; {word} {:.3} %", bound * 100.0);
            to.add(rule, weight, outcome, detail);
        };
        let failed = (self.measured_failed, self.measured);
        add("failures as expected", Weight::Threshold, expected.failed_share_max, failed, true);
        let unresponded = (self.measured_unresponded, self.measured);
        add("every invocation got a response", Weight::Threshold, expected.unresponded_share_max, unresponded, true);
        // Warm rows among cold starts favour the system: the repetition then measured something else, and is invalid.
        // What failed was neither cold nor warm. A saturated system creates sandboxes for invocations that have timed out,
        // and the next ones find them; or it falls behind, and its sandboxes still exist when their functions are invoked
        // again. That is only a mark, because nothing else can be expected there.
        let succeeded = self.measured - self.measured_failed;
        let fails = self.measured_failed as f64 >= SATURATED_SHARE * self.measured as f64;
        let is_saturated = fails || overload.is_some();
        let weight = if is_saturated { Weight::Mark } else { Weight::Validity };
        add(Invariant::COLD, weight, expected.cold_share_min, (self.succeeded_cold, succeeded), false);
        if let (Some(least), Some(rate)) = (expected.succeeded_per_s_min, settings.load.rate()) {
            let per_s = succeeded as f64 / f64::from(rate.seconds);
            let detail = format!("{per_s:.1} of {:.1} per second; at least {least:.1}", rate.rate_per_s);
            to.add(
                "as many invocations succeeded per second as expected",
                Weight::Threshold,
                Finding::of(per_s >= least),
                detail,
            );
        }
    }
}

fn words(counts: &BTreeMap<Outcome, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
