//! Whether cold starts were cold and warm invocations warm: rows joined to the creations that the system recorded.
//!
//! A cold start is an invocation whose sandbox became ready after the invocation arrived. Its creation may have begun
//! before, for another invocation that a freed slot then served; such rows are counted apart. Between ready on the
//! worker and known to the data plane lies a journey of unknown length: only what contradicts both ends is a finding.

use std::collections::HashMap;

use record::{ColdStart, Invocation, Outcome};
use stats::quantile;

use crate::verify::invariant::Findings;

/// How far two readings of clocks on one machine may disagree, in nanoseconds: the system states phases in whole
/// microseconds each, and takes the wall clock once per creation.
pub const CLOCK_TOLERANCE_NS: i64 = 1_000_000;

/// A creation, with times in nanoseconds from the run's start.
#[derive(Clone, Debug)]
struct Creation {
    function: String,
    requested_ns: i64,
    /// When it became ready, on its worker.
    ready_ns: Option<i64>,
    /// When the data plane knew that at the latest.
    known_ns: Option<i64>,
    /// All that lies before the endpoint is on its way to the data plane. `net_dataplane` is left out: it holds the way
    /// back of the data plane's acknowledgement, which the invocation does not wait for.
    phases_us: Option<u64>,
    succeeded: bool,
}

/// Counts while rows pass by.
#[derive(Debug, Default)]
pub struct Coldness {
    creations: HashMap<String, Creation>,
    ids_twice: u64,
    cold: u64,
    own_creation: u64,
    not_created: u64,
    ready_before: u64,
    warm: u64,
    warm_not_created: u64,
    warm_ready_after: u64,
    residuals_us: Vec<i64>,
    creation_residuals_us: Vec<i64>,
}

impl Coldness {
    /// Knows the creations; no row seen yet.
    #[must_use]
    pub fn new(rows: &[ColdStart]) -> Self {
        let mut coldness = Self::default();
        for row in rows {
            let to_ready_us = row.to_ready_us();
            let published_us = to_ready_us.zip(row.publish_us).map(|(to_ready, publish)| to_ready + publish);
            let known_us = published_us.zip(row.net_dataplane_us).map(|(published, net)| published + net);
            let at = |us: u64| row.requested_ns.saturating_add(nanoseconds(us));
            let creation = Creation {
                function: row.function.clone(),
                requested_ns: row.requested_ns,
                ready_ns: to_ready_us.map(at),
                known_ns: known_us.map(at),
                phases_us: published_us,
                succeeded: row.outcome == "ready",
            };
            coldness.ids_twice += u64::from(coldness.creations.insert(row.sandbox.clone(), creation).is_some());
        }
        coldness
    }

    /// Counts a row.
    pub fn observe(&mut self, row: &Invocation) {
        let (Some(sent), Some(cold)) = (row.sent_ns, row.cold) else { return };
        if row.outcome != Outcome::Ok {
            return;
        }
        self.residual(row, sent);
        let arrived = i64::try_from(sent).unwrap_or(i64::MAX);
        let creation = row.sandbox.as_ref().and_then(|sandbox| self.creations.get(sandbox));
        let creation = creation.filter(|creation| creation.succeeded && creation.function == row.function);
        let waited = row.queue_us.unwrap_or(0) > 0;
        match (cold, creation) {
            (1, None) => self.not_created += 1,
            (1, Some(creation)) => {
                let own = creation.requested_ns.saturating_add(CLOCK_TOLERANCE_NS) >= arrived;
                self.own_creation += u64::from(own);
                let before = |known: i64| known.saturating_add(CLOCK_TOLERANCE_NS) < arrived;
                self.ready_before += u64::from(creation.known_ns.is_some_and(before));
                if let (true, Some(waited), Some(phases)) = (own, row.cold_us, creation.phases_us) {
                    self.creation_residuals_us.push(difference(waited, phases));
                }
            }
            (_, None) => self.warm_not_created += 1,
            (_, Some(creation)) => {
                let latest = latest_arrival_ns(row).unwrap_or(i64::MAX);
                let after = |ready: i64| ready > latest.saturating_add(CLOCK_TOLERANCE_NS);
                self.warm_ready_after += u64::from(!waited && creation.ready_ns.is_some_and(after));
            }
        }
        if cold == 1 { self.cold += 1 } else { self.warm += 1 }
    }

    /// What of a row's time no phase accounts for.
    fn residual(&mut self, row: &Invocation, sent: u64) {
        let (Some(done), Some(exec)) = (row.done_ns, row.exec_us) else { return };
        let phases = row.queue_us.unwrap_or(0) + row.cold_us.unwrap_or(0) + exec;
        self.residuals_us.push(difference(done.saturating_sub(sent) / 1000, phases));
    }

    /// Judges what was counted.
    pub fn conclude(mut self, has_creations: bool, to: &mut Findings) {
        phases("phases never exceed the latency", &mut self.residuals_us, to);
        let rules =
            ["cold rows have a new sandbox of their function", "cold rows arrived before their sandbox could be used"];
        let warm_rule = "warm rows found their sandbox ready";
        if !has_creations || (self.cold == 0 && self.warm == 0) {
            let reason = if has_creations { "no row says whether it was cold" } else { "there is no coldstarts.csv" };
            for rule in rules.into_iter().chain([warm_rule, "phases of a creation never exceed the wait for it"]) {
                to.not_measured(rule, reason);
            }
            return;
        }
        let detail = format!(
            "{} cold rows, {} without; {} creations, {} ids twice",
            self.cold,
            self.not_created,
            self.creations.len(),
            self.ids_twice
        );
        to.validity(rules[0], self.not_created == 0 && self.ids_twice == 0, detail);
        let shared = self.cold - self.not_created - self.own_creation;
        let detail = format!(
            "{} arrived later; {} with a creation begun after they arrived, {shared} with one already under way",
            self.ready_before, self.own_creation
        );
        to.validity(rules[1], self.ready_before == 0, detail);
        let detail = format!(
            "{} warm rows, {} whose sandbox was ready only later, {} without a creation",
            self.warm, self.warm_ready_after, self.warm_not_created
        );
        to.validity(warm_rule, self.warm_ready_after == 0 && self.warm_not_created == 0, detail);
        phases("phases of a creation never exceed the wait for it", &mut self.creation_residuals_us, to);
    }
}

/// When a row can have arrived at the data plane at the latest: all its phases lie between then and its answer.
fn latest_arrival_ns(row: &Invocation) -> Option<i64> {
    let phases_us = row.queue_us.unwrap_or(0) + row.cold_us.unwrap_or(0) + row.exec_us?;
    i64::try_from(row.done_ns?.saturating_sub(phases_us.saturating_mul(1000))).ok()
}

/// Judges the residuals of a sum of phases.
fn phases(rule: &'static str, residuals_us: &mut [i64], to: &mut Findings) {
    residuals_us.sort_unstable();
    let (Some(least), Some(median), Some(p99)) =
        (residuals_us.first(), quantile(residuals_us, 0.5), quantile(residuals_us, 0.99))
    else {
        to.not_measured(rule, "no row has all phases");
        return;
    };
    let ms = |us: i64| us as f64 / 1e3;
    let detail = format!(
        "residual least {:.3} ms (−1 ms allowed for clock readings), median {:.3} ms, p99 {:.3} ms",
        ms(*least),
        ms(median),
        ms(p99)
    );
    to.validity(rule, *least * 1000 >= -CLOCK_TOLERANCE_NS, detail);
}

fn nanoseconds(us: u64) -> i64 {
    i64::try_from(us.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// `whole - parts`, which may be negative, in microseconds.
fn difference(whole: u64, parts: u64) -> i64 {
    let (whole, parts) = (i64::try_from(whole).unwrap_or(i64::MAX), i64::try_from(parts).unwrap_or(i64::MAX));
    whole.saturating_sub(parts)
}
